import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { stripVTControlCharacters } from "node:util";
import { bareEnv, STITCH } from "./run-stitch.ts";

/** `script` of util-linux provides the terminal; other versions of it take other arguments. */
export const hasTerminals = /util-linux/.test(spawnSync("script", ["--version"], { encoding: "utf8" }).stdout ?? "");

const quoted = (word: string): string => `'${word.replaceAll("'", String.raw`'\''`)}'`;

/**
 * Runs `stitch` on a terminal of 80 columns, without colours. It is killed after 20 s.
 * @param press what is typed once `asked` is on the screen.
 * @returns all that was on the screen.
 */
export async function onTerminal(
  args: readonly string[],
  env: Record<string, string>,
  { asked, press }: { readonly asked: string; readonly press: string } = { asked: "", press: "" },
): Promise<{ code: number | null; screen: string }> {
  const line = ["stty", "cols", "80", ";", "exec", ...[process.execPath, STITCH, ...args].map(quoted)].join(" ");
  const child = spawn("script", ["-q", "-e", "-c", line, "/dev/null"], {
    env: bareEnv({ NO_COLOR: "1", TERM: "xterm", SHELL: "/bin/sh", ...env }),
    stdio: ["pipe", "pipe", "ignore"],
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  // The process may end before it has read all input.
  child.stdin.on("error", () => undefined);
  let screen = "";
  let typed = press === "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
    if (typed || !screen.includes(asked)) return;
    typed = true;
    child.stdin.write(press);
  });
  const [code] = (await once(child, "close")) as [number | null];
  return { code, screen: stripVTControlCharacters(screen).replaceAll("\r\n", "\n") };
}
