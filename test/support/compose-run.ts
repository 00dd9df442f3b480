// Starts what infra/compose.yaml says, without a container engine: each service as a `Container`, all in one network of its own.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { until } from "./cluster.ts";
import { COMPOSE_FILE, type ComposeFile, type Service } from "./compose-file.ts";
import { Container, type ContainerOptions, newVolume } from "./container.ts";
import { buildImage, type Image } from "./image.ts";
import { type ImageRoots } from "./image-roots.ts";

const FOLDER = dirname(COMPOSE_FILE);
const REDIS_DOCKERFILE = join(import.meta.dirname, "redis.Dockerfile");
const HEALTHY_MS = 60_000;

/** The folder of this machine that has Redis's programs, or null. */
function folderOfRedis(): string | null {
  const { stdout } = spawnSync("sh", ["-c", "command -v redis-server && command -v redis-cli"], { encoding: "utf8" });
  const [server = "", client = ""] = stdout.split("\n").map(dirname);
  return server !== "." && server === client ? server : null;
}

/** Why no Redis can be run in a container here; false if one can. */
export const whyNoRedis = (): string | false =>
  folderOfRedis() === null && "this machine has no redis-server beside a redis-cli";

/** A network with the loopback address alone. It ends with this process, in whatever way this process ends. */
class LoopbackNetwork {
  readonly #holder: ChildProcess;
  readonly pid: number;
  /** The kernel's name for it. */
  readonly #name: string;

  private constructor(holder: ChildProcess, pid: number) {
    this.#holder = holder;
    this.pid = pid;
    this.#name = readlinkSync(`/proc/${pid}/ns/net`);
  }

  static async make(): Promise<LoopbackNetwork> {
    const script = `ip link set lo up && echo "$$" && exec cat`;
    const holder = spawn("unshare", ["--net", "sh", "-c", script], { stdio: ["pipe", "pipe", "inherit"] });
    const pid = await new Promise<Buffer>((done, fail) => {
      holder.stdout.once("data", done);
      holder.once("close", () => fail(new Error("no network can be made")));
    });
    return new LoopbackNetwork(holder, Number(pid.toString()));
  }

  /** The processes in it, but its own, as `pid command`. */
  processes(): string[] {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && Number(name) !== this.pid)
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
  }
}

type Started = { readonly service: Service; readonly container: Container };

export class ComposeRun {
  /** Replicas are numbered, as `master-1`. */
  readonly #started: ReadonlyMap<string, Started>;
  readonly #network: LoopbackNetwork;

  private constructor(started: ReadonlyMap<string, Started>, network: LoopbackNetwork) {
    this.#started = started;
    this.#network = network;
  }

  /** Builds the images and makes the containers; starts none. */
  static async create(file: ComposeFile, roots: ImageRoots): Promise<ComposeRun> {
    const images = await imagesOf(file, roots);
    const network = await LoopbackNetwork.make();
    const volumes = new Map<string, string>();
    const started = new Map<string, Started>();
    for (const [name, service] of Object.entries(file.services)) {
      const image = images.get(service.image);
      if (image === undefined) throw new Error(`there is no image ${service.image}`);
      const mounted = service.volumes.map((volume) => {
        const [source = "", target = "", ...mode] = volume.split(":");
        const isHere = source.startsWith(".");
        const from = isHere ? join(FOLDER, source) : (volumes.get(source) ?? newVolume(roots, image, target));
        if (!isHere) volumes.set(source, from);
        return [from, target, ...mode].join(":");
      });
      const options = { ...optionsOf(service, file), volumes: mounted, network: { of: network.pid } };
      for (const hostname of namesOf(name, service))
        started.set(hostname, {
          service,
          container: new Container(roots, image, service.command, { ...options, hostname }),
        });
    }
    return new ComposeRun(started, network);
  }

  get containers(): ReadonlyMap<string, Container> {
    return new Map([...this.#started].map(([name, { container }]) => [name, container]));
  }

  container(name: string): Container {
    const container = this.#started.get(name)?.container;
    if (container === undefined) throw new Error(`there is no ${name}`);
    return container;
  }

  /** Starts each service once those it depends on are healthy, and waits until all are: `docker compose up --wait`. */
  async up(): Promise<void> {
    const left = new Map(this.#started);
    while (left.size > 0) {
      const isHealthy = (name: string) => this.#started.has(name) && !left.has(name);
      const ready = [...left].filter(([, { service }]) => Object.keys(service.depends_on).every(isHealthy));
      if (ready.length === 0) throw new Error(`these wait for each other: ${[...left.keys()].join(", ")}`);
      for (const [, { container }] of ready) container.start();
      for (const [name] of ready) await this.healthy(name);
      for (const [name] of ready) left.delete(name);
    }
  }

  /** Resolves when its health check passes; fails with its output. */
  async healthy(name: string): Promise<void> {
    const container = this.container(name);
    const isHealthy = async () => (await container.health()).code === 0;
    await until(`${name} is healthy`, isHealthy, HEALTHY_MS).catch((error: unknown) => {
      throw new Error(`${name}:\n${container.output}`, { cause: error });
    });
  }

  /** The processes of all containers, as `pid command`. */
  processes(): string[] {
    return this.#network.processes();
  }

  /** Ends what still runs, at once. */
  async end(): Promise<void> {
    await Promise.all([...this.#started.values()].map(({ container }) => container.remove()));
    await until("no process is left in the network", () => this.processes().length === 0);
    await this.#network.end();
  }
}

const namesOf = (name: string, { deploy: { replicas } }: Service): string[] =>
  Array.from({ length: replicas }, (_, index) => (replicas === 1 ? name : `${name}-${index + 1}`));

function optionsOf(service: Service, { services }: ComposeFile): ContainerOptions {
  const isReached = ({ networks }: Service) => networks.some((each) => service.networks.includes(each));
  const reached = Object.entries(services).filter(([, other]) => isReached(other));
  return {
    env: service.environment,
    user: service.user,
    readOnly: service.read_only,
    tmpfs: service.tmpfs,
    capDrop: service.cap_drop,
    securityOpt: service.security_opt,
    addHosts: reached.map(([name]) => `${name}:127.0.0.1`),
    health: service.healthcheck?.test.slice(1),
    stopTimeoutMs: Number.parseInt(service.stop_grace_period, 10) * 1000,
  };
}

/** By name. Each is built as its service says; what stands in for Redis's image is built of this machine's programs. */
async function imagesOf({ services }: ComposeFile, roots: ImageRoots): Promise<Map<string, Image>> {
  const builds = new Map(
    Object.values(services).map(({ image, build }) => {
      if (build !== undefined) {
        const context = resolve(FOLDER, build.context);
        return [image, { dockerfile: join(context, build.dockerfile), context }];
      }
      const context = folderOfRedis();
      if (!image.startsWith("redis:") || context === null) throw new Error(`nothing stands in for ${image}`);
      return [image, { dockerfile: REDIS_DOCKERFILE, context }];
    }),
  );
  const built = await Promise.allSettled(
    [...builds].map(async ([name, { dockerfile, context }]) => {
      const image = await buildImage(roots, dockerfile, context);
      return [name, image] as const;
    }),
  );
  return new Map(
    built.map((each) => {
      if (each.status === "rejected") throw each.reason;
      return each.value;
    }),
  );
}
