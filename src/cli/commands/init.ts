import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** Set for a process that already runs under an init, to prevent an endless loop of restarts. */
const MARK = "CROSSSTITCH_UNDER_INIT";

/** Small programs that are made to be process 1, and their options, which come before the command to run. */
const INITS = [
  { program: "tini", options: ["--"] },
  { program: "catatonit", options: ["--"] },
  { program: "dumb-init", options: ["--single-child", "--"] },
] as const;

const SHELL = "/bin/sh";
/**
 * Does what those programs do: runs the command, forwards signals to it, reaps every ended process, and ends with the
 * command's exit code. A signal ends a `wait` early, so it waits again; for a command that has ended in the meantime, the
 * second `wait` returns 127 (unknown) or the exit code again.
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
 * If this process is process 1, like the only program of a container: restarts it as the child of an init, and does not
 * return. The kernel makes process 1 the parent of every orphan, but Node reaps only its own children: ended orphans would
 * stay as zombies, and the worker would wait for them at each restart of a stitch.
 */
export function runUnderInit(): void {
  if (process.pid !== 1 || process.execve === undefined || process.env[MARK] !== undefined) return;
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const env: NodeJS.ProcessEnv = { ...process.env, [MARK]: "1" };
  // A failed execve ends the process, so each program is checked before.
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
