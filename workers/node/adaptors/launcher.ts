import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, readlinkSync, realpathSync } from "node:fs";

const ENV = "/usr/bin/env";
const NICE = "/usr/bin/nice";
/** A look at the tools of the machine takes milliseconds. */
const LOOK_LIMIT_MS = 2000;
/** env(1): it failed itself, as where it cannot enter the folder. */
const ENV_FAILED = 125;
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;
const WHAT_BY_CODE: ReadonlyMap<number, Refusal["what"]> = new Map([
  [ENV_FAILED, "no folder"],
  [NOT_EXECUTABLE, "not executable"],
  [NOT_FOUND, "no program"],
]);
/** Of what a tool says at the look: its beginning tells enough. */
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
   * The programs that it goes by way of, as they call themselves where they have something to say: they enter the folder, and
   * become the program. None where it is started directly.
   */
  readonly tools: readonly string[];
};

/** Why a launch has not become its program. `reason` is the system's, in the language of the program's environment. */
export type Refusal = {
  readonly what: "no folder" | "no program" | "not executable";
  readonly reason: string;
};

/**
 * Starts programs without touching what a command names: the working folder and the program may be on a filesystem that
 * answers nothing, and whoever asks for them there hangs. `spawn` enters the folder and looks for the program before it
 * returns, so it is given `/` and `env -C`, which does both in the new process. That alone hangs then, and SIGKILL ends it.
 * The process stays the same when `env` becomes the program: its number, its group, what it has open.
 */
export class Launcher {
  /** Why programs are started without it; null where they are not. */
  readonly missing: string | null;
  /** What `env` is called by, so that it calls itself that: a script with `#!/usr/bin/env` has one that says the same. */
  readonly #name: string;
  readonly #hasNice: boolean;
  /** Their files, behind all links. */
  readonly #toolFiles: ReadonlySet<string>;

  private constructor(name: string, missing: string | null, hasNice: boolean) {
    this.#name = name;
    this.missing = missing;
    this.#hasNice = hasNice;
    this.#toolFiles = new Set([ENV, NICE].map(realPath));
  }

  /** Looks whether this machine has an `env` that enters a folder. Once, and within a bound. Never rejects. */
  static async look(env = ENV): Promise<Launcher> {
    const name = `launch-${randomBytes(6).toString("hex")}/env`;
    const [entered, refused] = await Promise.all([
      // By a path that cannot be a program, so that `nice` is looked at, too.
      outcomeOf(name, env, ["-C", "/", "--", NICE, "-n", "0", "--", "/dev/null/nothing"]),
      outcomeOf(name, env, ["-C", "/dev/null", "--", "nothing"]),
    ]);
    const hasNice = entered.code === NOT_EXECUTABLE && entered.said.startsWith(`${NICE}: `);
    const hasNoNice = entered.code === NOT_FOUND && entered.said.startsWith(`${name}: `);
    const isThere = refused.code === ENV_FAILED && refused.said.startsWith(`${name}: `) && (hasNice || hasNoNice);
    return new Launcher(name, isThere ? null : missingText(env), hasNice);
  }

  /** How to start a program in a folder. Looks at neither. */
  launch(cwd: string, program: string, args: readonly string[]): SpawnCall {
    // `env` would take the one for a variable, and the other for an option.
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
   * Has this process not become its program yet? Where the system does not tell, it counts as if it had. Asks for nothing
   * that waits for the process: neither its memory nor its folder is looked at.
   */
  isUnderWay(pid: number): boolean {
    try {
      const name = readFileSync(`/proc/${pid}/comm`, "latin1").trim();
      if (name !== "env" && name !== "nice") return false;
      return this.#toolFiles.has(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
    } catch {
      // There is no /proc, or it is gone, or it has become another user's, whose file is not shown.
      return false;
    }
  }

  /**
   * What stopped a launch; null where the program has run.
   * @param code it exited with. @param said by one of its tools, to standard error.
   */
  refusal(code: number | null, said: string | null): Refusal | null {
    if (said === null || code === null) return null;
    const what = WHAT_BY_CODE.get(code);
    return what === undefined ? null : { what, reason: said.slice(said.lastIndexOf(": ") + 2) };
  }
}

type Outcome = { readonly code: number | null; readonly said: string };

function outcomeOf(argv0: string, file: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    let said = "";
    let child: ChildProcess;
    try {
      child = spawn(file, args, { argv0, cwd: "/", stdio: ["ignore", "ignore", "pipe"] });
    } catch {
      // Whatever it is, it starts nothing.
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
