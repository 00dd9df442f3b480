import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { ROOT, type User } from "./image-settings.ts";
import { holdMounts, type MountHolder } from "./mount-holder.ts";

const run = promisify(execFile);
const repository = join(import.meta.dirname, "../..");

/** A file tree as an image has it: folders on top of each other, the upper first. The last is this machine's root. */
export type Layers = readonly string[];
/** What is mounted in a root: a folder or a file, of this machine or of the roots, or a new folder in memory. */
export type Mount =
  | { readonly at: string; readonly from: string; readonly readOnly: boolean }
  | { readonly at: string; readonly tmpfs: string };
/** Its own has a loopback address and nothing else. Or that of a process, by its pid. */
export type Network = "own" | "machine's" | { readonly of: number };
export type Rights = {
  readonly user: User;
  /** What the user may have at most; a user who is not root has none to begin with. */
  readonly capabilities: readonly string[];
  /** May a program that is set-uid give more rights? */
  readonly newPrivileges: boolean;
};
export type Entered = {
  readonly layers: Layers;
  /** Takes what is changed. */
  readonly changes: string;
  /** Can nothing be changed but what is mounted? */
  readonly readOnly: boolean;
  /** Beside proc and sys. What they are mounted on is made where it is missing. */
  readonly mounts: readonly Mount[];
  readonly network: Network;
  /** null: this machine's. */
  readonly hostname: string | null;
  readonly rights: Rights;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly command: readonly string[];
};

/** What Docker leaves to a container that is not told otherwise. */
export const DEFAULT_CAPABILITIES =
  "audit_write chown dac_override fowner fsetid kill mknod net_bind_service net_raw setfcap setgid setpcap setuid sys_chroot".split(
    " ",
  );

/** What Debian's packages consist of. All else of this machine is hidden, and so is what it has installed beside its packages. */
const OF_DEBIAN = /^(bin|sbin|lib\d*|libx?32|usr|etc|var)$/;
const HIDDEN = ["/usr/local", "/var/tmp"];
/** A Node of this machine must not stand in for that of the release. */
const NODE_PROGRAMS = ["node", "nodejs", "npm", "npx", "corepack"].map((name) => `/usr/bin/${name}`);
const FOLDERS = "dev home media mnt opt proc root run srv sys usr/local/bin usr/local/lib".split(" ");
const DEVICES = { null: "1 3", zero: "1 5", full: "1 7", random: "1 8", urandom: "1 9", tty: "5 0" };

/** A tmpfs may hold half of the memory. A build of our image takes 1.2 GB for a while, most of it packages, and two may run at once. */
const LEAST_MEMORY_BYTES = 5e9;

/** For sh. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const line = (...words: readonly string[]): string => words.map(quoted).join(" ");

/**
 * File trees in a mount namespace of their own, which live in memory. When this process ends, however it ends, the kernel takes all
 * of them away. It stands in for the storage and the runtime of a container engine.
 */
export class ImageRoots {
  readonly #dir: string;
  readonly #holder: MountHolder;
  #made = 0;

  private constructor(dir: string, holder: MountHolder) {
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
    const { holder, why } = await holdMounts(script, [dir]);
    const roots = new ImageRoots(dir, holder);
    let said = why ?? "";
    if (why === null) {
      // A trial, because containers often allow some of this and not the rest.
      const trial = await roots.#trial();
      if (trial === null) return roots;
      said = trial;
    }
    await roots.end();
    return `no file tree can be made: ${said}`;
  }

  async #trial(): Promise<string | null> {
    const rights = { user: ROOT, capabilities: DEFAULT_CAPABILITIES, newPrivileges: true };
    const rest = { readOnly: true, mounts: [], network: "own", hostname: "trial", rights, env: {}, cwd: "/" } as const;
    try {
      const [base, changes] = [await this.standIn(), this.folder()];
      await this.run({ ...rest, layers: [base, "/"], changes, command: ["/bin/true"] });
      for (const folder of [base, changes]) this.remove(folder);
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
    const hidden = [...top.map((name) => `/${name}`), ...HIDDEN, ...NODE_PROGRAMS, "/usr/lib/node_modules", repository];
    const inIt = hidden.filter((path) => existsSync(path) && !hidden.some((one) => path.startsWith(`${one}/`)));
    const script = [
      "set -e",
      `cd ${quoted(base)}`,
      // To an overlay, such a device says that there is nothing.
      ...inIt.map((path) => `${line("mkdir", "-p", `.${dirname(path)}`)}; ${line("mknod", `.${path}`, "c", "0", "0")}`),
      this.#overlay(["/"], base, merged),
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

  #overlay(layers: Layers, changes: string, at: string): string {
    const options = `lowerdir=${layers.join(":")},upperdir=${changes},workdir=${this.folder()}`;
    return line("mount", "-t", "overlay", "-o", options, "overlay", at);
  }

  /** The program and arguments that run the command as process 1 in a root of its own. When the program ends, all of them end. */
  entering({ layers, changes, readOnly, mounts, network, hostname, rights, env, cwd, command }: Entered) {
    const at = this.folder();
    const script = [
      "set -e",
      this.#overlay(layers, changes, at),
      ...mounts.flatMap((mount) => mounting(mount, at)),
      line("mount", "-t", "proc", "proc", join(at, "proc")),
      line("mount", "-t", "sysfs", "-o", "ro", "sysfs", join(at, "sys")),
      ...(network === "own" ? ["ip link set lo up"] : []),
      ...(hostname === null ? [] : [`echo ${quoted(hostname)} > /proc/sys/kernel/hostname`]),
      ...(readOnly ? [line("mount", "-o", "remount,bind,ro", at)] : []),
      `exec ${line("chroot", at, ...limited(rights), ...cleanly(env, cwd), ...command)}`,
    ];
    const inNetwork = typeof network === "object" ? [`--net=/proc/${network.of}/ns/net`] : [];
    const namespaces = ["--mount", "--uts", "--ipc", "--pid", ...(network === "own" ? ["--net"] : [])];
    const own = ["unshare", ...namespaces, "--fork", "--kill-child", "sh", "-c", script.join("\n")];
    // Else it would outlive a test run that is killed.
    const args = ["--pdeathsig", "KILL", "nsenter", ...this.#inside, ...inNetwork, ...own];
    return { file: "setpriv", args };
  }

  /** Runs the command to its end. @throws with what it printed, if it fails. */
  async run(entered: Entered, timeoutMs = 5 * 60_000): Promise<{ stdout: string; stderr: string }> {
    const { file, args } = this.entering(entered);
    return await run(file, args, { timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 });
  }

  /** Puts what is in one folder into another, as root's, with its modes. Both are folders of the namespace, and exist. */
  async copy(from: string, to: string): Promise<void> {
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

function mounting(mount: Mount, root: string): string[] {
  const at = join(root, mount.at);
  const folder = line("mkdir", "-p", at);
  if ("tmpfs" in mount) {
    const options = ["nosuid", "nodev", "noexec", ...(mount.tmpfs === "" ? [] : [mount.tmpfs])].join();
    return [folder, line("mount", "-t", "tmpfs", "-o", options, "tmpfs", at)];
  }
  const file = `${line("mkdir", "-p", dirname(at))}; : >> ${quoted(at)}`;
  return [
    `if [ -d ${quoted(mount.from)} ]; then ${folder}; else ${file}; fi`,
    line("mount", "--bind", mount.from, at),
    ...(mount.readOnly ? [line("mount", "-o", "remount,bind,ro", at)] : []),
  ];
}

/** The command that runs another with these rights. */
export const limited = ({ user: { uid, gid }, capabilities, newPrivileges }: Rights): string[] => [
  "setpriv",
  `--reuid=${uid}`,
  `--regid=${gid}`,
  "--clear-groups",
  "--inh-caps=-all",
  `--bounding-set=${["-all", ...capabilities.map((name) => `+${name}`)].join()}`,
  ...(newPrivileges ? [] : ["--no-new-privs"]),
  // The kernel has forgotten it with the change of the user.
  "--pdeathsig=KILL",
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
