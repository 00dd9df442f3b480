import { type ChildProcess, execFile, spawn } from "node:child_process";
import { chmodSync, chownSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../../src/error-text.ts";
import { until } from "./cluster.ts";
import { fileIn, type Image } from "./image.ts";
import {
  cleanly,
  DEFAULT_CAPABILITIES,
  type ImageRoots,
  limited,
  type Mount,
  type Network,
  type Rights,
} from "./image-roots.ts";
import { type User } from "./image-settings.ts";

/** Named after the options of `docker run`, and written as there. */
export type ContainerOptions = {
  readonly hostname?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** With its arguments. */
  readonly entrypoint?: readonly string[];
  /** A name of the image's list of users, or `UID:GID`. */
  readonly user?: string | undefined;
  readonly readOnly?: boolean;
  /** `PATH[:OPTIONS]` */
  readonly tmpfs?: readonly string[];
  /** `FROM:TO[:ro]`: folders and files, of this machine or of the roots. */
  readonly volumes?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly securityOpt?: readonly string[];
  /** Default: this machine's, as with `--network host`. */
  readonly network?: Network;
  /** `NAME:ADDRESS` */
  readonly addHosts?: readonly string[];
  /** In place of the image's HEALTHCHECK. */
  readonly health?: readonly string[] | undefined;
  /** Default: Docker's 10 s. */
  readonly stopTimeoutMs?: number;
};

export type Ended = { readonly code: number | string | null; readonly stdout: string; readonly stderr: string };

/** A container without a container engine: an image's program as process 1, in namespaces and a root of its own. */
export class Container {
  readonly #roots: ImageRoots;
  readonly #image: Image;
  readonly #options: ContainerOptions;
  readonly #command: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #rights: Rights;
  readonly #mounts: readonly Mount[];
  readonly #changes: string;
  #child: ChildProcess | null = null;
  #exited: Promise<number | string | null> = Promise.resolve(null);
  #hasEnded = false;
  /** What it has printed, in all its lives. */
  output = "";

  /** As `docker create IMAGE ARGS`. */
  constructor(roots: ImageRoots, image: Image, args: readonly string[], options: ContainerOptions = {}) {
    this.#roots = roots;
    this.#image = image;
    this.#options = options;
    const user = options.user === undefined ? image.user : userNamed(options.user, roots, image);
    this.#env = { HOME: homeOf(user, roots, image), ...image.env, ...options.env };
    this.#command = [...(options.entrypoint ?? image.entrypoint), ...(args.length > 0 ? args : image.command)];
    this.#rights = rightsOf(user, options);
    this.#mounts = mountsOf(roots, options);
    this.#changes = roots.folder();
  }

  /** As `docker start`: also anew, with what it had changed in its root. */
  start(): void {
    const { readOnly = false, network = "machine's", hostname = null } = this.#options;
    const { layers, cwd } = this.#image;
    const { file, args } = this.#roots.entering({
      layers,
      changes: this.#changes,
      readOnly,
      mounts: this.#mounts,
      network,
      hostname,
      rights: this.#rights,
      env: this.#env,
      cwd,
      command: this.#command,
    });
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (text: Buffer) => (this.output += text.toString()));
    this.#child = child;
    this.#hasEnded = false;
    this.#exited = new Promise((resolve) =>
      child.once("close", (code, signal) => {
        this.#hasEnded = true;
        resolve(code ?? signal);
      }),
    );
  }

  /** Its exit code, or the signal that ended it, once it has ended. */
  get exited(): Promise<number | string | null> {
    return this.#exited;
  }

  /** @throws with its output if it has ended. */
  mustRun(): void {
    if (this.#hasEnded) throw new Error(`it has ended:\n${this.output}`);
  }

  /** The pid that process 1 has for this machine, once it runs a program of the image. @throws if it ends before. */
  async one(): Promise<number> {
    return await until("process 1 is a program of the image", () => {
      this.mustRun();
      const pid = this.#child?.pid ?? 0;
      const one = readOr("", `/proc/${pid}/task/${pid}/children`).trim();
      // Until then it is the shell that mounts, or a program in between.
      const [program = ""] = one === "" ? [] : readOr("", `/proc/${one}/cmdline`).split("\0");
      return !/^$|^(setpriv|nsenter|unshare|sh|chroot|env)$/.test(program) && Number(one);
    });
  }

  /** As `docker exec`: runs a program of the image beside process 1. */
  async exec(command: readonly string[]): Promise<Ended> {
    const namespaces = ["--mount", "--uts", "--ipc", "--pid", "--net", "--root", "--wd=/"];
    const entered = [`--target=${await this.one()}`, ...namespaces, "--"];
    const words = [...entered, ...limited(this.#rights), ...cleanly(this.#env, this.#image.cwd), ...command];
    return await new Promise((resolve) =>
      execFile("nsenter", words, { timeout: 60_000 }, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : (error.code ?? error.signal ?? null), stdout, stderr }),
      ),
    );
  }

  /** Runs its health check. */
  async health(): Promise<Ended> {
    const command = this.#options.health ?? this.#image.health;
    if (command === null) throw new Error("it has no health check");
    return await this.exec(command);
  }

  /** Sends process 1 a signal. @returns how it ended. @throws with its output where Docker would kill it. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | string | null> {
    const { stopTimeoutMs = 10_000 } = this.#options;
    process.kill(await this.one(), signal);
    await until("it ends in time", () => this.#hasEnded, stopTimeoutMs).catch((error: unknown) => {
      throw new Error(this.output, { cause: error });
    });
    return await this.exited;
  }

  /** As `docker rm --force`. The kernel ends all of its processes. Safe to repeat. */
  async remove(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.exited;
    this.#roots.remove(this.#changes);
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

function rightsOf(user: User, { capDrop = [], securityOpt = [] }: ContainerOptions): Rights {
  const unknown = securityOpt.filter((option) => option !== "no-new-privileges:true");
  if (unknown.length > 0) throw new Error(`not implemented: ${unknown.join()}`);
  const isLeft = (name: string) => !capDrop.includes("ALL") && !capDrop.includes(name.toUpperCase());
  return { user, capabilities: DEFAULT_CAPABILITIES.filter(isLeft), newPrivileges: securityOpt.length === 0 };
}

function mountsOf(roots: ImageRoots, { tmpfs = [], volumes = [], addHosts = [] }: ContainerOptions): Mount[] {
  const mounts: Mount[] = [];
  for (const entry of tmpfs) {
    const [at = "", options = ""] = entry.split(":");
    mounts.push({ at, tmpfs: options });
  }
  for (const volume of volumes) {
    const [from = "", at = "", mode] = volume.split(":");
    mounts.push({ at, from, readOnly: mode === "ro" });
  }
  if (addHosts.length > 0) {
    const hosts = join(roots.folder(), "hosts");
    const entries = ["localhost:127.0.0.1", ...addHosts].map((entry) => entry.split(":"));
    writeFileSync(roots.seen(hosts), entries.map(([name, address]) => `${address} ${name}\n`).join(""));
    mounts.push({ at: "/etc/hosts", from: hosts, readOnly: true });
  }
  return mounts;
}

const usersOf = (roots: ImageRoots, image: Image): string[][] =>
  (fileIn(roots, image, "/etc/passwd") ?? "").split("\n").map((line) => line.split(":"));

function userNamed(text: string, roots: ImageRoots, image: Image): User {
  const [uid, gid] = /^\d+:\d+$/.test(text)
    ? text.split(":")
    : (usersOf(roots, image)
        .find(([name]) => name === text)
        ?.slice(2) ?? []);
  if (uid === undefined || gid === undefined) throw new Error(`the image has no user ${text}`);
  return { uid: Number(uid), gid: Number(gid) };
}

/** As Docker sets HOME. */
const homeOf = ({ uid }: User, roots: ImageRoots, image: Image): string =>
  usersOf(roots, image).find(([, , other]) => other === String(uid))?.[5] ?? "/";

/** As a new volume of Docker's, which is like the folder that the image has in its place. @returns its folder. */
export function newVolume(roots: ImageRoots, { layers }: Image, at: string): string {
  const folder = roots.folder();
  const volume = roots.seen(folder);
  const like = layers
    .slice(0, -1)
    .map((layer) => statSync(roots.seen(join(layer, at)), { throwIfNoEntry: false }))
    .find((found) => found !== undefined);
  if (like !== undefined) {
    chownSync(volume, like.uid, like.gid);
    chmodSync(volume, like.mode & 0o7777);
  }
  return folder;
}
