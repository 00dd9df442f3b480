import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");

/** A file tree as an image has it: folders on top of each other, the upper first. The last is this machine's root. */
export type Layers = readonly string[];
export type User = { readonly uid: number; readonly gid: number };
export type Entered = {
  readonly layers: Layers;
  /** Takes what is changed. null: nothing can be changed. */
  readonly changes: string | null;
  /** What is mounted in the root beside proc and sys: arguments of mount(8) by folder. */
  readonly mounts: Readonly<Record<string, readonly string[]>>;
  /** Its own has a loopback address and nothing else. */
  readonly network: "own" | "machine's";
  readonly user: User;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly command: readonly string[];
};

/** What Debian's packages consist of. All else of this machine is hidden, and so is what it has installed beside its packages. */
const OF_DEBIAN = /^(bin|sbin|lib\d*|libx?32|usr|etc|var)$/;
const HIDDEN = ["/usr/local", "/var/tmp"];
/** A Node of this machine must not stand in for that of the release. */
const NODE_PROGRAMS = ["node", "nodejs", "npm", "npx", "corepack"].map((name) => `/usr/bin/${name}`);
const FOLDERS = "dev home media mnt opt proc root run srv sys usr/local/bin usr/local/lib".split(" ");
const DEVICES = { null: "1 3", zero: "1 5", full: "1 7", random: "1 8", urandom: "1 9", tty: "5 0" };

/** Half of the memory is what a tmpfs may hold. The build of our image takes 1.2 GB for a while, most of it the packages. */
const LEAST_MEMORY_BYTES = 3.5e9;

/** For sh. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const line = (...words: readonly string[]): string => words.map(quoted).join(" ");

/**
 * File trees in a mount namespace of their own, which live in memory. When this process ends, however it ends, the kernel takes all
 * of them away. It stands in for the storage and the runtime of a container engine.
 */
export class ImageRoots {
  readonly #dir: string;
  readonly #holder: ChildProcess;
  #made = 0;

  private constructor(dir: string, holder: ChildProcess) {
    this.#dir = dir;
    this.#holder = holder;
  }

  /** @returns the roots, or why there are none: they need root, Debian's apt-get, overlays, namespaces, and memory. */
  static async make(): Promise<ImageRoots | string> {
    if (process.platform !== "linux") return "only Linux has overlays";
    if (process.getuid?.() !== 0) return "only root can mount an overlay";
    if (!existsSync("/usr/bin/apt-get")) return "this machine has no apt-get, so it cannot stand in for a base image";
    if (totalmem() < LEAST_MEMORY_BYTES) return `an image is built in memory, and ${totalmem()} bytes are too few`;
    const dir = mkdtempSync(join(tmpdir(), "cs-image-"));
    const script = 'mount -t tmpfs -o mode=0755 tmpfs "$1" && echo done && exec cat';
    const holder = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script, "sh", dir]);
    const roots = new ImageRoots(dir, holder);
    let said = "";
    holder.stderr.on("data", (text: Buffer) => (said += text.toString()));
    const isMounted = await new Promise<boolean>((resolve) => {
      holder.stdout.once("data", () => resolve(true));
      holder.once("error", (error) => {
        said = error.message;
        resolve(false);
      });
      holder.once("close", () => resolve(false));
    });
    if (isMounted) {
      // A trial, because containers often allow some of this and not the rest.
      const trial = await roots.#trial();
      if (trial === null) return roots;
      said = trial;
    }
    await roots.end();
    return `no file tree can be made: ${said.trim()}`;
  }

  async #trial(): Promise<string | null> {
    const asRoot = { user: { uid: 0, gid: 0 }, env: {}, cwd: "/", mounts: {}, network: "own" } as const;
    try {
      const base = await this.standIn();
      await this.run({ ...asRoot, layers: [base, "/"], changes: null, command: ["/bin/true"] });
      this.remove(base);
      return null;
    } catch (error) {
      return String(error);
    }
  }

  /** Where the namespace has the trees; for others it is empty. */
  get path(): string {
    return this.#dir;
  }

  /** The path by which this process reaches a folder of the namespace. */
  seen(path: string): string {
    return `/proc/${this.#holder.pid}/root${path}`;
  }

  /** A new folder of the namespace. */
  folder(): string {
    const path = join(this.#dir, String(this.#made++));
    mkdirSync(this.seen(path));
    // The file tree's own root has this mode.
    chmodSync(this.seen(path), 0o755);
    return path;
  }

  remove(path: string): void {
    rmSync(this.seen(path), { recursive: true, force: true });
  }

  /** @returns a layer above this machine's root that leaves little more than Debian's packages of it. */
  async standIn(): Promise<string> {
    const [base, merged] = [this.folder(), this.folder()];
    const top = readdirSync("/").filter((name) => !OF_DEBIAN.test(name));
    const hidden = [...top.map((name) => `/${name}`), ...HIDDEN, ...NODE_PROGRAMS, "/usr/lib/node_modules", root];
    const inIt = hidden.filter((path) => existsSync(path) && !hidden.some((one) => path.startsWith(`${one}/`)));
    const script = [
      "set -e",
      `cd ${quoted(base)}`,
      // To an overlay, such a device says that there is nothing.
      ...inIt.map((path) => `${line("mkdir", "-p", `.${dirname(path)}`)}; ${line("mknod", `.${path}`, "c", "0", "0")}`),
      ...this.#overlay(["/"], base, merged),
      `cd ${quoted(merged)}`,
      line("mkdir", "-p", ...FOLDERS),
      line("mkdir", "-m", "1777", "tmp", "var/tmp"),
      line("chmod", "0700", "root"),
      ...Object.entries(DEVICES).map(([name, numbers]) => `mknod -m 0666 dev/${name} c ${numbers}`),
    ];
    await run("nsenter", [...this.#inside, "unshare", "--mount", "sh", "-c", script.join("\n")]);
    return base;
  }

  get #inside(): string[] {
    return [`--mount=/proc/${this.#holder.pid}/ns/mnt`, "--wd=/"];
  }

  #overlay(layers: Layers, changes: string | null, at: string): string[] {
    const lower = `lowerdir=${layers.join(":")}`;
    if (changes === null) return [line("mount", "-t", "overlay", "-o", lower, "overlay", at)];
    const work = this.folder();
    return [line("mount", "-t", "overlay", "-o", `${lower},upperdir=${changes},workdir=${work}`, "overlay", at)];
  }

  /** The program and arguments that run the command as process 1 in a root of its own. When the program ends, all of them end. */
  entering({ layers, changes, mounts, network, user, env, cwd, command }: Entered): [string, string[]] {
    const at = this.folder();
    const script = [
      "set -e",
      ...this.#overlay(layers, changes, at),
      ...Object.entries(mounts).map(([folder, words]) => line("mount", ...words, join(at, folder))),
      line("mount", "-t", "proc", "proc", join(at, "proc")),
      line("mount", "-t", "sysfs", "-o", "ro", "sysfs", join(at, "sys")),
      ...(network === "own" ? ["ip link set lo up"] : []),
      `exec ${line("chroot", at, ...rightsOf(user), ...cleanly(env, cwd), ...command)}`,
    ];
    const namespaces = ["--mount", "--pid", "--fork", "--kill-child", ...(network === "own" ? ["--net"] : [])];
    const entered = ["nsenter", ...this.#inside, "unshare", ...namespaces, "sh", "-c", script.join("\n")];
    // Else it would outlive a test run that is killed.
    return ["setpriv", ["--pdeathsig", "KILL", ...entered]];
  }

  /** Runs the command to its end. @throws with what it printed, if it fails. */
  async run(entered: Entered, timeoutMs = 5 * 60_000): Promise<{ stdout: string; stderr: string }> {
    const [file, args] = this.entering(entered);
    return await run(file, args, { timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 });
  }

  /** Puts what is in one folder into another, as root's, with its modes. Both are folders of the namespace. */
  async copy(from: string, to: string): Promise<void> {
    mkdirSync(this.seen(to), { recursive: true });
    const flags = ["-R", "--no-dereference", "--preserve=mode,links"];
    // The dot stands for what is in the folder.
    await run("cp", [...flags, `${this.seen(from)}/.`, this.seen(to)]);
  }

  /** Safe to repeat. */
  async end(): Promise<void> {
    if (this.#holder.exitCode === null && this.#holder.signalCode === null && this.#holder.pid !== undefined) {
      const ended = once(this.#holder, "close");
      this.#holder.stdin?.end();
      await ended;
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

/** The command that runs another as this user: all but root have no rights, and get none by a program that is set-uid. */
export const rightsOf = ({ uid, gid }: User): string[] =>
  uid === 0
    ? []
    : [
        "setpriv",
        `--reuid=${uid}`,
        `--regid=${gid}`,
        // The kernel has forgotten it with the change of the user.
        "--pdeathsig=KILL",
        ..."--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all".split(" "),
      ];

/** The command that runs another in this environment and nothing else. */
export const cleanly = (env: Readonly<Record<string, string>>, cwd: string): string[] => [
  "env",
  "-i",
  "-C",
  cwd,
  ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
];

/** The files of a folder for which `takes` holds, as paths below it. `enters`: the folders that may hold one. */
export function filesOf(
  folder: string,
  takes: (path: string) => boolean,
  enters: (path: string) => boolean,
  at = folder,
): string[] {
  return readdirSync(at, { withFileTypes: true }).flatMap((entry) => {
    const path = relative(folder, join(at, entry.name));
    if (entry.isDirectory()) return enters(path) ? filesOf(folder, takes, enters, join(at, entry.name)) : [];
    return takes(path) ? [path] : [];
  });
}
