import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Set for what runs under an init already: nothing may go round in a circle. */
const MARK = "CROSSSTITCH_UNDER_INIT";

/** Small programs made to be process 1, and what comes before the command that each is to run. */
const INITS = [
  { program: "tini", options: ["--"] },
  { program: "catatonit", options: ["--"] },
  { program: "dumb-init", options: ["--single-child", "--"] },
] as const;

const SHELL = "/bin/sh";
/**
 * What those programs do: runs the command, hands signals on to it, takes away every process that has ended, and ends with
 * the command's exit code. A signal ends a `wait` early; waited for once more, a command that had ended all the same is no
 * longer known (127), or its code is told again.
 */
const SHELL_INIT = `
exec 3<&0
"$@" <&3 3<&- &
child=$!
for signal in TERM INT HUP QUIT; do trap "heard=1; kill -$signal $child 2>/dev/null" $signal; done
while :; do
  heard=
  wait $child
  now=$?
  [ $now = 127 ] || code=$now
  [ -n "$heard" ] && [ $now != 127 ] || exit \${code:-127}
done`;

/**
 * Where this process is number 1, as the only program of a container is: starts anew as the child of an init, and never
 * returns. The kernel makes number 1 the parent of every orphan, and Node takes away only children of its own: what has
 * ended would be listed for ever, and the worker wait for it at each restart of a stitch.
 */
export function runUnderInit(): void {
  if (process.pid !== 1 || process.execve === undefined || process.env[MARK] !== undefined) return;
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const env: NodeJS.ProcessEnv = { ...process.env, [MARK]: "1" };
  // A failed execve ends the process, so what may fail is looked at before.
  for (const { program, options } of INITS) {
    const path = (env["PATH"] ?? "")
      .split(delimiter)
      .map((folder) => join(folder, program))
      .find(mayRun);
    if (path !== undefined) process.execve(path, [program, ...options, ...command], env);
  }
  if (mayRun(SHELL)) process.execve(SHELL, ["sh", "-c", SHELL_INIT, "sh", ...command], env);
}

function mayRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
