import { type ChildProcess, spawn } from "node:child_process";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";

const CLOSE_LIMIT_MS = 10_000;

/** Types commands into one `sh`, one after the other, as a person would: a command sees what an earlier one has set. */
export class Typist {
  readonly #shell: ChildProcess;
  readonly #ended: Promise<unknown>;
  #output = "";
  #commands = 0;

  /** @param through a command that becomes the shell (exec), for example in another namespace. */
  constructor(cwd: string, env: Readonly<Record<string, string>>, through: readonly string[] = []) {
    const [file, ...args]: [string, ...string[]] = ["env", ...through, "sh"];
    // Its own process group, so that Ctrl-C reaches what the shell runs.
    this.#shell = spawn(file, args, { cwd, env, detached: true, stdio: ["pipe", "pipe", "inherit"] });
    this.#ended = new Promise((resolve) => this.#shell.once("close", resolve));
    this.#shell.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
    });
    // One pipe, so that all output comes before the mark at its end. The shell survives Ctrl-C; the programs that it runs
    // do not.
    this.#shell.stdin?.write("exec 2>&1; trap : INT\n");
  }

  /** @returns the exit code, and the output on stdout and stderr. @throws if the command takes longer than `limitMs`. */
  async type(command: string, limitMs: number): Promise<{ code: number; output: string }> {
    this.#write(command);
    return await this.#end(command, limitMs);
  }

  /** Waits until the command prints something, then ends it with Ctrl-C. @throws if it prints nothing in time, or goes on. */
  async typeAndInterrupt(command: string, limitMs: number): Promise<void> {
    this.#write(command);
    if (!(await waitUntil(() => this.#output !== "", limitMs))) throw new Error(`nothing is printed by: ${command}`);
    this.#signal("SIGINT");
    await this.#end(command, limitMs);
  }

  #write(command: string): void {
    this.#output = "";
    this.#commands += 1;
    this.#shell.stdin?.write(`{ ${command}\n} </dev/null; printf '\\n<${this.#commands}> %s\\n' "$?"\n`);
  }

  async #end(command: string, limitMs: number): Promise<{ code: number; output: string }> {
    const end = new RegExp(`\\n<${this.#commands}> (\\d+)\\n`);
    await waitUntil(() => end.test(this.#output), limitMs);
    const [line, code] = end.exec(this.#output) ?? [];
    if (line === undefined) throw new Error(`still running after ${limitMs} ms: ${command}\n${this.#output}`);
    return { code: Number(code), output: this.#output.replace(line, "") };
  }

  /** Ends the shell, and what it runs. Safe to repeat. */
  async close(): Promise<void> {
    this.#shell.stdin?.end();
    const killing = setTimeout(() => this.#signal("SIGKILL"), CLOSE_LIMIT_MS);
    await this.#ended;
    clearTimeout(killing);
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#shell.pid !== undefined && this.#shell.exitCode === null) process.kill(-this.#shell.pid, signal);
  }
}
