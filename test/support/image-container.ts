import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileIn, type Image } from "./image.ts";
import { cleanly, type ImageRoots, rightsOf } from "./image-roots.ts";
import { errorCode } from "../../src/error-text.ts";
import { until } from "./cluster.ts";

export type ContainerOptions = {
  readonly env?: Readonly<Record<string, string>>;
  /** As `docker run --entrypoint`, with its arguments. */
  readonly entrypoint?: readonly string[];
  /** As `docker run --read-only`, with a tmpfs on /tmp and /run/crossstitch. */
  readonly readOnly?: boolean;
  /** As `docker run --volume`: folders, of this machine or of the roots, by where the container has them. */
  readonly volumes?: Readonly<Record<string, string>>;
  /** Default: this machine's, as with `docker run --network host`. */
  readonly network?: "own";
};

export type Ended = { readonly code: number | string | null; readonly stdout: string; readonly stderr: string };

/** A program of an image that runs as process 1 of its own PID namespace, without rights. */
export class Container {
  readonly #image: Image;
  readonly #env: Readonly<Record<string, string>>;
  readonly #changes: string | null;
  readonly #roots: ImageRoots;
  readonly #child: ChildProcess;
  readonly exited: Promise<number | string | null>;
  output = "";
  #hasEnded = false;

  /** As `docker run IMAGE ARGS`. */
  constructor(roots: ImageRoots, image: Image, args: readonly string[], options: ContainerOptions = {}) {
    this.#roots = roots;
    this.#image = image;
    this.#env = { HOME: homeIn(roots, image), ...image.env, ...options.env };
    const { user, layers, cwd } = image;
    const isFixed = options.readOnly === true;
    this.#changes = isFixed ? null : roots.folder();
    const command = [...(options.entrypoint ?? image.entrypoint), ...(args.length > 0 ? args : image.command)];
    const mounts: Record<string, string[]> = {};
    if (isFixed) {
      mounts["/tmp"] = ["-t", "tmpfs", "-o", "mode=1777", "tmpfs"];
      mounts["/run/crossstitch"] = ["-t", "tmpfs", "-o", `mode=0700,uid=${user.uid},gid=${user.gid}`, "tmpfs"];
    }
    for (const [to, from] of Object.entries(options.volumes ?? {})) mounts[to] = ["--bind", from];
    const [file, words] = roots.entering({
      layers,
      changes: this.#changes,
      mounts,
      network: options.network ?? "machine's",
      user,
      env: this.#env,
      cwd,
      command,
    });
    this.#child = spawn(file, words, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.exited = new Promise((resolve) =>
      this.#child.once("close", (code, signal) => {
        this.#hasEnded = true;
        resolve(code ?? signal);
      }),
    );
  }

  /** @throws with its output if it has ended. */
  mustRun(): void {
    if (this.#hasEnded) throw new Error(`it has ended:\n${this.output}`);
  }

  /** The pid that process 1 has for this machine, once it runs a program of the image. @throws if it ends before. */
  async one(): Promise<number> {
    return await until("process 1 is a program of the image", () => {
      this.mustRun();
      const { pid = 0 } = this.#child;
      const one = readOr("", `/proc/${pid}/task/${pid}/children`).trim();
      // Until then it is the shell that mounts, or a program in between.
      const [program = ""] = one === "" ? [] : readOr("", `/proc/${one}/cmdline`).split("\0");
      return !/^$|^(setpriv|nsenter|unshare|sh|chroot|env)$/.test(program) && Number(one);
    });
  }

  /** As `docker exec`: runs a program of the image beside process 1. */
  async exec(command: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
    const target = [`--target=${await this.one()}`, "--mount", "--pid", "--net", "--root", "--wd=/"];
    const { user, cwd } = this.#image;
    const words = [...target, "--", ...rightsOf(user), ...cleanly({ ...this.#env, ...env }, cwd), ...command];
    return await new Promise((resolve) =>
      execFile("nsenter", words, { timeout: 60_000 }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? null), stdout, stderr }),
      ),
    );
  }

  /** Runs what HEALTHCHECK names. */
  async health(): Promise<Ended> {
    if (this.#image.health === null) throw new Error("the image has no HEALTHCHECK");
    return await this.exec(this.#image.health);
  }

  /** As `docker stop` without a limit: SIGTERM to process 1. @returns its exit code, or the signal that ended it. */
  async stop(): Promise<number | string | null> {
    process.kill(await this.one(), "SIGTERM");
    return await this.exited;
  }

  /** As `docker rm --force`. The kernel ends all of its processes. Safe to repeat. */
  async remove(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
    if (this.#changes !== null) this.#roots.remove(this.#changes);
  }
}

/** What a file of /proc says, or `other` where its process has ended. */
function readOr(other: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ESRCH") return other;
    throw error;
  }
}

/** As Docker sets HOME: by the image's list of users. */
function homeIn(roots: ImageRoots, image: Image): string {
  const users = (fileIn(roots, image, "/etc/passwd") ?? "").split("\n").map((line) => line.split(":"));
  return users.find(([, , uid]) => uid === String(image.user.uid))?.[5] ?? "/";
}
