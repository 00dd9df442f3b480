import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync, realpathSync } from "node:fs";

const ENV = "/usr/bin/env";
const NICE = "/usr/bin/nice";
/** Limit for the check of the machine's tools, which normally takes milliseconds. */
const LOOK_LIMIT_MS = 2000;
/** env(1): `env` itself failed, for example because it cannot enter the folder. */
const ENV_FAILED = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const WHAT_BY_CODE: ReadonlyMap<number, Refusal["what"]> = new Map([
  [ENV_FAILED, "no folder"],
  [NOT_EXECUTABLE, "not executable"],
  [NOT_FOUND, "no program"],
]);
/** Characters kept of a tool's output in the check: the beginning is enough. */
const MOST_CHARACTERS = 1000;

const missingText = (env: string): string =>
  `${env} does not know -C on this machine, so a start whose working folder or program is on a filesystem that does not ` +
  "answer holds up the whole node; install GNU coreutils 8.28 or later, and start the worker again";

/** What `spawn` is called with. */
export type SpawnCall = {
  readonly file: string;
  readonly args: readonly string[];
  readonly argv0?: string;
  readonly cwd: string;
  /**
   * The tools through which the program is started: they enter the folder and become the program. Each is given as the
   * prefix of its own error messages. Empty if the program is started directly.
   */
  readonly tools: readonly string[];
};

/** Why a launch did not become its program. `reason` is the system's text, in the language of the program's environment. */
export type Refusal = {
  readonly what: "no folder" | "no program" | "not executable";
  readonly reason: string;
};

/**
 * Starts programs without touching the paths that a command names: the working folder and the program
 * may be on a filesystem that does not answer, and a process that asks for them hangs. `spawn` enters
 * the folder and looks for the program before it returns. So it is given `/` and `env -C`, which does
 * both in the new process. Then only the new process hangs, and SIGKILL ends it. When `env` becomes
 * the program, the process stays the same: its pid, its group, its open files.
 */
export class Launcher {
  /** Why programs are started without `env -C`; null if they are started with it. */
  readonly missing: string | null;
  /**
   * The `argv0` of `env`, with which its error messages begin. An `env` in a
   * script's `#!/usr/bin/env` prints the same messages under its own name.
   */
  readonly #name: string;
  readonly #hasNice: boolean;
  /** The real paths of the tools, with all links followed. */
  readonly #toolFiles: ReadonlySet<string>;

  private constructor(name: string, missing: string | null, hasNice: boolean) {
    this.#name = name;
    this.missing = missing;
    this.#hasNice = hasNice;
    this.#toolFiles = new Set([ENV, NICE].map(realPath));
  }

  /** Checks whether this machine has an `env` that enters a folder. Once, and bounded in time. Never rejects. */
  static async look(env = ENV): Promise<Launcher> {
    const name = `launch-${randomBytes(6).toString("hex")}/env`;
    const [entered, refused] = await Promise.all([
      // With a path that cannot be a program, so that `nice` is checked, too.
      outcomeOf(name, env, ["-C", "/", "--", NICE, "-n", "0", "--", "/dev/null/nothing"]),
      outcomeOf(name, env, ["-C", "/dev/null", "--", "nothing"]),
    ]);
    const hasNice = entered.code === NOT_EXECUTABLE && entered.said.startsWith(`${NICE}: `);
    const hasNoNice = entered.code === NOT_FOUND && entered.said.startsWith(`${name}: `);
    const isThere = refused.code === ENV_FAILED && refused.said.startsWith(`${name}: `) && (hasNice || hasNoNice);
    return new Launcher(name, isThere ? null : missingText(env), hasNice);
  }

  /** How to start a program in a folder. Accesses neither of them. */
  launch(cwd: string, program: string, args: readonly string[]): SpawnCall {
    // `env` would take a name with `=` for a variable, and `-` for an option.
    const isMistaken = program.includes("=") || program === "-";
    if (this.missing !== null || (isMistaken && !this.#hasNice)) return { file: program, args, cwd, tools: [] };
    const by = isMistaken ? [NICE, "-n", "0", "--"] : [];
    return {
      file: ENV,
      argv0: this.#name,
      args: ["-C", cwd, "--", ...by, program, ...args],
      cwd: "/",
      tools: [`${this.#name}: `, ...(isMistaken ? [`${NICE}: `] : [])],
    };
  }

  /**
   * Has this process not become its program yet? false if the system does not tell. Reads nothing that waits for the
   * process: neither its memory nor its folder.
   */
  isUnderWay(pid: number): boolean {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, "latin1").trim();
      if (name !== "env" && name !== "nice") return false;
      return this.#toolFiles.has(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
    } catch {
      // There is no /proc, or the process is gone, or it belongs to another user now, and its file is not shown.
      return false;
    }
  }

  /**
   * Why a launch failed; null if the program has run.
   * @param code the exit code. @param said what one of the tools wrote to standard error.
   */
  refusal(code: number | null, said: string | null): Refusal | null {
    if (said === null || code === null) return null;
    const what = WHAT_BY_CODE.get(code);
    return what === undefined ? null : { what, reason: said.slice(said.lastIndexOf(": ") + 2) };
  }
}

/** Starts the process of a launch, as the leader of a process group of its own. @throws if the system refuses at once. */
export const spawnCall = (
  { file, args, argv0, cwd }: SpawnCall,
  env: Record<string, string>,
  stdin: "pipe" | "ignore",
): ChildProcess =>
  spawn(file, args, {
    cwd,
    ...(argv0 === undefined ? {} : { argv0 }),
    env,
    detached: true,
    stdio: [stdin, "pipe", "pipe"],
  });

type Outcome = { readonly code: number | null; readonly said: string };

function outcomeOf(argv0: string, file: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    let said = "";
    let child: ChildProcess;
    try {
      child = spawn(file, args, { argv0, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
    } catch {
      // Whatever this file is, it cannot start programs.
      resolve({ code: null, said });
      return;
    }
    const timer = setTimeout(() => child.kill("SIGKILL"), LOOK_LIMIT_MS);
    const end = (code: number | null) => {
      clearTimeout(timer);
      resolve({ code, said });
    };
    child.stderr?.on("data", (text: Buffer) => (said += text.toString().slice(0, MOST_CHARACTERS)));
    child.once("error", () => end(null));
    child.once("close", end);
  });
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}
