import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { until } from "./cluster.ts";
import { IMAGE, type Service } from "./compose-file.ts";

/** As in the image of Redis. */
const USERS: Readonly<Record<string, number>> = { redis: 999 };
const FOLDERS = ["etc", "proc", "dev", "opt/crossstitch", "tmp", dirname(IMAGE.env.STITCH_HEALTH_FILE)];
/** What of this machine its programs need to read; where one is a link, the link. */
const SYSTEM = ["usr", "bin", "sbin", "lib", "lib32", "lib64"].filter((name) => existsSync(`/${name}`));
const SYSTEM_LINKS = SYSTEM.filter((name) => lstatSync(`/${name}`).isSymbolicLink());
const SYSTEM_FOLDERS = SYSTEM.filter((name) => !SYSTEM_LINKS.includes(name));
export const OWN_NAMESPACES = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation=private"];

/** What a container finds around it. */
export type Surroundings = {
  /** For the folders of all containers. */
  readonly dir: string;
  /** The folder that the image would have in /opt/crossstitch. */
  readonly release: string;
  /** Names that lead to the loopback address of the network. */
  readonly hosts: readonly string[];
  /** The arguments of `nsenter` for a process in the network. */
  readonly network: readonly string[];
  /** The folder or file that is mounted for the source of a volume. */
  readonly volume: (source: string, user: number) => string;
};

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** `SOURCE:TARGET[:ro]` */
function mountOf(volume: string): { source: string; target: string; readOnly: boolean } {
  const [source = "", target = "", mode] = volume.split(":");
  return { source, target, readOnly: mode === "ro" };
}

/**
 * A service of a Compose file (or one of its replicas) in namespaces of the kernel, without a container engine: it has a root,
 * processes, mounts and a host name of its own. The programs are those of this machine, and a release.
 */
export class Container {
  readonly name: string;
  readonly service: Service;
  readonly #around: Surroundings;
  #child: ChildProcess | null = null;
  /** What it has printed, in all its lives. */
  output = "";

  constructor(name: string, service: Service, around: Surroundings) {
    this.name = name;
    this.service = service;
    this.#around = around;
  }

  get #dir(): string {
    return join(this.#around.dir, this.name);
  }
  get #isPart(): boolean {
    return this.service.build !== undefined;
  }
  get #user(): number {
    return this.service.user === undefined ? IMAGE.user : (USERS[this.service.user] ?? Number(this.service.user));
  }
  get #env(): Record<string, string> {
    return { HOME: "/", ...(this.#isPart ? IMAGE.env : { PATH: IMAGE.env.PATH }), ...this.service.environment };
  }

  /** Process 1 of its namespace, as this process sees it; 0 if there is none yet. */
  get #pid(): number {
    return Number(readFileSync(join(this.#dir, "pid"), "utf8"));
  }
  get #hasEnded(): boolean {
    return this.#child === null || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Starts it; does not wait until it is healthy. */
  start(): void {
    const root = join(this.#dir, "root");
    if (!existsSync(root)) this.#makeRoot(root);
    writeFileSync(join(this.#dir, "pid"), "");
    const command = [...(this.#isPart ? ["stitch"] : []), ...this.service.command];
    const become = `exec chroot ${[root, ...this.#asItsUser(), ...command].map(quoted).join(" ")}`;
    const script = ["set -e", ...this.#mounts(root), become].join("\n");
    const args = [...this.#around.network, "unshare", ...OWN_NAMESPACES, "sh", "-c", script];
    const child = spawn("nsenter", args, { cwd: "/", env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => (this.output += chunk.toString()));
    this.#child = child;
  }

  /** What an image has: the places for mounts, and a few files in /etc. */
  #makeRoot(root: string): void {
    const temporary = this.service.tmpfs.map((entry) => entry.split(":")[0] ?? "");
    const targets = [...temporary, ...this.service.volumes.map((volume) => mountOf(volume).target)];
    const files = targets.filter((target) => target.endsWith(".conf"));
    const folders = [...FOLDERS, ...SYSTEM_FOLDERS, ...targets.filter((target) => !files.includes(target))];
    for (const folder of [...folders, ...files.map(dirname)]) mkdirSync(join(root, folder), { recursive: true });
    for (const file of files) writeFileSync(join(root, file), "");
    for (const name of SYSTEM_LINKS) symlinkSync(readlinkSync(`/${name}`), join(root, name));
    const hosts = ["localhost", ...this.#around.hosts].map((host) => `127.0.0.1 ${host}\n`);
    writeFileSync(join(root, "etc/hosts"), hosts.join(""));
    writeFileSync(join(root, "etc/nsswitch.conf"), "hosts: files\n");
    writeFileSync(join(root, "etc/passwd"), `user:x:${this.#user}:${this.#user}::/:/bin/sh\n`);
  }

  /** The lines that make of this machine's root what the service says. The shell that runs them becomes the service. */
  #mounts(root: string): string[] {
    const at = (path: string): string => quoted(join(root, path));
    const bind = (from: string, to: string, readOnly: boolean): string[] => [
      `mount --bind ${quoted(from)} ${at(to)}`,
      ...(readOnly ? [`mount -o remount,bind,ro ${at(to)}`] : []),
    ];
    return [
      `read -r pid rest < /proc/self/stat; echo "$pid" > ${quoted(join(this.#dir, "pid"))}`,
      `echo ${quoted(this.name)} > /proc/sys/kernel/hostname`,
      ...bind(root, "/", false),
      ...SYSTEM_FOLDERS.flatMap((name) => bind(`/${name}`, name, true)),
      ...bind(this.#around.release, "opt/crossstitch", true),
      `mount --rbind /dev ${at("dev")}`,
      `mount -t proc none ${at("proc")}`,
      ...this.service.tmpfs.map((entry) => {
        const [path = "", options = ""] = entry.split(":");
        return `mount -t tmpfs -o nosuid,nodev,noexec,${options} none ${at(path)}`;
      }),
      ...this.service.volumes.map(mountOf).flatMap(({ source, target, readOnly }) => {
        return bind(this.#around.volume(source, this.#user), target, readOnly);
      }),
      ...(this.service.read_only ? [`mount -o remount,bind,ro ${at("/")}`] : []),
    ];
  }

  #asItsUser(): string[] {
    const { cap_drop: dropped, security_opt: options } = this.service;
    const ids = [`--reuid=${this.#user}`, `--regid=${this.#user}`, "--clear-groups"];
    const capabilities = dropped.includes("ALL") ? ["--inh-caps=-all", "--bounding-set=-all"] : [];
    const privileges = options.includes("no-new-privileges:true") ? ["--no-new-privs"] : [];
    return ["setpriv", ...ids, ...capabilities, ...privileges, "--"];
  }

  /** Runs a command in it, as its user: `docker compose exec`. */
  async exec(command: readonly string[]): Promise<Ended> {
    const namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"];
    const args = ["--target", String(this.#pid), ...namespaces, "--", ...this.#asItsUser(), ...command];
    const child = spawn("nsenter", args, { cwd: "/", env: this.#env, stdio: ["ignore", "pipe", "pipe"] });
    const closed = once(child, "close");
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    await closed;
    return { code: child.exitCode, stdout, stderr };
  }

  /** What its health check says: the service's own, or the image's. @throws with its output if it has ended. */
  async isHealthy(): Promise<boolean> {
    if (this.#hasEnded) throw new Error(`${this.name} has ended:\n${this.output}`);
    if (this.#pid === 0) return false;
    const [, ...own] = this.service.healthcheck?.test ?? [];
    return (await this.exec(own.length > 0 ? own : IMAGE.healthcheck)).code === 0;
  }

  /** Sends it a signal. @returns its exit code. @throws with its output if it does not end within its grace period. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (!this.#hasEnded) process.kill(this.#pid, signal);
    const graceMs = Number.parseInt(this.service.stop_grace_period, 10) * 1000;
    await until(`${this.name} ends within its grace period`, () => this.#hasEnded, graceMs);
    return this.#child?.exitCode ?? null;
  }
}
