// Starts what infra/compose.yaml says, without a container engine: each service as a `Container`, all in one network of its own.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { until } from "./cluster.ts";
import { COMPOSE_FILE, type ComposeFile } from "./compose-file.ts";
import { Container, OWN_NAMESPACES } from "./container.ts";

const PROGRAMS = ["redis-server", "redis-cli", "setpriv", "nsenter", "ip"];
const HEALTHY_MS = 60_000;

/** Why services cannot be run here; false if they can. */
export function whyNoContainers(): string | false {
  if (process.platform !== "linux") return "only Linux has namespaces";
  const missing = PROGRAMS.filter((program) => spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0);
  if (missing.length > 0) return `not installed: ${missing.join(", ")}`;
  const script = "ip link set lo up && mount -t tmpfs none /mnt";
  const tried = spawnSync("unshare", ["--net", ...OWN_NAMESPACES, "sh", "-c", script], { encoding: "utf8" });
  return tried.status !== 0 && `there are no namespaces to be had: ${tried.error?.message ?? tried.stderr}`;
}

/**
 * A network with the loopback address alone. Its process 1 reads a pipe of this process: when this process ends, in whatever way,
 * the kernel ends all that runs there.
 */
class Network {
  readonly #holder: ChildProcess;
  readonly #pid: number;
  /** The kernel's name for it. */
  readonly #name: string;

  private constructor(holder: ChildProcess, pid: number) {
    this.#holder = holder;
    this.#pid = pid;
    this.#name = readlinkSync(`/proc/${pid}/ns/net`);
  }

  static async make(): Promise<Network> {
    const script = `read -r pid rest < /proc/self/stat; ip link set lo up; echo "$pid"; exec cat`;
    const args = ["--net", "--pid", "--fork", "--kill-child", "sh", "-c", script];
    const holder = spawn("unshare", args, { stdio: ["pipe", "pipe", "inherit"] });
    const pid = await new Promise<Buffer>((resolve) => holder.stdout.once("data", resolve));
    return new Network(holder, Number(pid.toString()));
  }

  get entry(): readonly string[] {
    return ["--target", String(this.#pid), "--net", "--pid", "--"];
  }

  /** The processes in it, but its own two, as `pid command`. */
  processes(): string[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && Number(name) !== this.#pid && Number(name) !== this.#holder.pid)
      .flatMap((pid) => {
        try {
          if (readlinkSync(`/proc/${pid}/ns/net`) !== this.#name) return [];
          return [`${pid} ${readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ")}`];
        } catch {
          // It ended meanwhile.
          return [];
        }
      });
  }

  async end(): Promise<void> {
    const exited = once(this.#holder, "exit");
    this.#holder.stdin?.end();
    await exited;
    await until("no process is left in the network", () => this.processes().length === 0);
  }
}

export class ComposeRun {
  /** Replicas are numbered, as `master-1`. */
  readonly containers: ReadonlyMap<string, Container>;
  readonly #file: ComposeFile;
  readonly #dir = mkdtempSync(join(tmpdir(), "cs-compose-"));
  readonly #network: Network;

  private constructor(file: ComposeFile, release: string, network: Network) {
    this.#file = file;
    this.#network = network;
    const around = {
      dir: this.#dir,
      release,
      hosts: Object.keys(file.services),
      network: network.entry,
      volume: (source: string, user: number) => this.#volume(source, user),
    };
    const named = Object.entries(file.services).flatMap(([name, service]) => {
      const { replicas } = service.deploy;
      const names = Array.from({ length: replicas }, (_, index) => (replicas === 1 ? name : `${name}-${index + 1}`));
      return names.map((each) => new Container(each, service, around));
    });
    for (const { name } of named) mkdirSync(join(this.#dir, name));
    this.containers = new Map(named.map((container) => [container.name, container]));
  }

  /** @param release the folder of a release. */
  static async open(file: ComposeFile, release: string): Promise<ComposeRun> {
    return new ComposeRun(file, release, await Network.make());
  }

  container(name: string): Container {
    const container = this.containers.get(name);
    if (container === undefined) throw new Error(`there is no ${name}`);
    return container;
  }

  #volume(source: string, user: number): string {
    if (source.startsWith(".")) return join(dirname(COMPOSE_FILE), source);
    const folder = join(this.#dir, `volume-${source}`);
    if (!existsSync(folder)) {
      mkdirSync(folder, { mode: 0o700 });
      chownSync(folder, user, user);
    }
    return folder;
  }

  /** Starts each service once those it depends on are healthy, and waits until all are: `docker compose up --wait`. */
  async up(): Promise<void> {
    const left = new Map(this.containers);
    while (left.size > 0) {
      const ready = [...left.values()].filter(({ service }) =>
        Object.keys(service.depends_on).every((name) => name in this.#file.services && !left.has(name)),
      );
      if (ready.length === 0) throw new Error(`these wait for each other: ${[...left.keys()].join(", ")}`);
      for (const container of ready) container.start();
      for (const container of ready) await this.healthy(container.name);
      for (const { name } of ready) left.delete(name);
    }
  }

  /** Resolves when its health check passes; fails with its output. */
  async healthy(name: string): Promise<void> {
    const container = this.container(name);
    await until(`${name} is healthy`, () => container.isHealthy(), HEALTHY_MS).catch((error: unknown) => {
      throw new Error(`${name}:\n${container.output}`, { cause: error });
    });
  }

  /** The processes of all containers, as `pid command`. */
  processes(): string[] {
    return this.#network.processes();
  }

  /** Ends what still runs, at once. */
  async end(): Promise<void> {
    await this.#network.end();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
