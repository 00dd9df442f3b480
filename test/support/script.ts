import { type ChildProcess, spawn } from "node:child_process";
import { delimiter } from "node:path";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";

/** Settings of npm that may come from the machine's environment. The other npm variables belong to the outer script. */
const NPM_SETTINGS = ["npm_config_registry", "npm_config_cache", "npm_config_userconfig", "npm_config_globalconfig"];

/** An environment like that of a person's shell, without the variables of the npm script, of the tests and of settings. */
export function shellEnv(over: Readonly<Record<string, string>>): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    const foreign = /^(npm_|NODE|TEST_|STITCH_|REDIS_URL$|INIT_CWD$)/i.test(name) && !NPM_SETTINGS.includes(name);
    if (value !== undefined && !foreign) env[name] = value;
  }
  const path = (env["PATH"] ?? "").split(delimiter).filter((folder) => !/node_modules|node-gyp-bin/.test(folder));
  return { ...env, PATH: path.join(delimiter), ...over };
}

/** A program as on a terminal: in its own process group, to which `interrupt` sends Ctrl-C. Its standard input is closed. */
export class Script {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | string>;
  #end: number | string | null = null;
  #lastMs = performance.now();
  /** All that it has printed. */
  output = "";
  /** How long it took until its first line. If npm runs the program, that includes the time to load npm. */
  untilFirstLineMs = 0;
  /** The longest time between two lines, so far. */
  longestSilenceMs = 0;

  constructor(program: string, args: readonly string[], cwd: string, env: Readonly<Record<string, string>>) {
    this.#child = spawn(program, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => this.#take(text));
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(error.message));
      this.#child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
    });
    void this.#ended.then((end) => {
      this.#end = end;
    });
  }

  #take(text: string): void {
    const nowMs = performance.now();
    if (this.output === "") this.untilFirstLineMs = nowMs - this.#lastMs;
    else this.longestSilenceMs = Math.max(this.longestSilenceMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    this.output += text;
  }

  /** @throws with its output if it ends without printing that, or does not print that within the limit. */
  async printed(pattern: RegExp, limitMs: number): Promise<void> {
    await waitUntil(() => pattern.test(this.output) || this.#end !== null, limitMs);
    if (!pattern.test(this.output))
      throw new Error(`${pattern} was not printed (ended: ${this.#end}):\n${this.output}`);
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.#signal("SIGINT");
  }

  /** @returns exit code or signal. @throws with its output if it does not end within the limit. */
  async end(limitMs: number): Promise<number | string> {
    if (await waitUntil(() => this.#end !== null, limitMs)) return await this.#ended;
    throw new Error(`still running after ${limitMs} ms:\n${this.output}`);
  }

  /** For the end of a test, whatever has happened. */
  async kill(): Promise<void> {
    if (this.#end === null) this.#signal("SIGKILL");
    await this.#ended;
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#child.pid !== undefined) process.kill(-this.#child.pid, signal);
  }
}
