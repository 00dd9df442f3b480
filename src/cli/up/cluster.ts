import { join, resolve } from "node:path";
import { pause } from "../../bounded-wait.ts";
import { type Client, createClient } from "../../client/client.ts";
import type { Config } from "../../config.ts";
import type { NodeResource } from "../../contract/node.ts";
import { Guard } from "../processes/guard.ts";
import { type LocalRedis, startLocalRedis } from "../processes/local-redis.ts";
import type { Home } from "./home.ts";
import { type Part, startPart, untilReady } from "./part.ts";
import { partEnv } from "./part-env.ts";
import { localUrl } from "./port-free.ts";
import type { Step } from "./steps.ts";

/** Each in a zone of its own, so that spreading can be seen. */
const NODES = [
  { id: "n1", zone: "a" },
  { id: "n2", zone: "b" },
  { id: "n3", zone: "c" },
] as const;
const READY_LIMIT_MS = 30_000;
const PROBE_LIMIT_MS = 2000;

type UpOptions = {
  readonly config: Config;
  /** The port for the API; never 0. */
  readonly port: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: Home;
  readonly step: Step;
  /** See `PartOptions.watch`. */
  readonly watch: boolean;
  /**
   * Called when a part ends once the cluster is up, although nobody stopped it. `backInMs`: when it is started again; null: never,
   * for Redis, which the parts depend on.
   */
  readonly onEnd: (name: string, how: string, part: Part | null, backInMs: number | null) => void;
  /** Called when such a part has been started again, or cannot be. */
  readonly onBack: (name: string, error: unknown) => void;
};

/** The first pause before a part is started again. It doubles with each end, up to the most; a part that lived this long begins anew. */
const FIRST_PAUSE_MS = 1000;
const MOST_PAUSE_MS = 30_000;
const LASTED_MS = 60_000;

/**
 * A cluster on this machine: Redis, API, master, three nodes, each a process. They end with this process, however that
 * ends; those that end by themselves are started again, but for Redis. `start` once; `stop` may be called at any time, twice and at once.
 */
export class UpCluster {
  readonly #options: UpOptions;
  readonly #guard: Guard;
  readonly client: Client;
  #redis: LocalRedis | null = null;
  /** By name. */
  readonly #parts = new Map<string, Part>();
  #started = false;
  #stopping: Promise<void> | null = null;
  readonly #ending = new AbortController();
  /** Parts that are being started again. */
  readonly #returning = new Set<Promise<void>>();

  constructor(options: UpOptions) {
    this.#options = options;
    this.#guard = new Guard(options.home.dir);
    const { config, port } = options;
    this.client = createClient({ url: localUrl(config.host, port), token: config.token?.reveal() ?? null });
  }

  /** @throws LocalRedisError, UsageError saying what did not come up, with the last lines of its log. */
  async start(signal: AbortSignal): Promise<void> {
    const { step, home } = this.#options;
    const { client } = this;
    if (this.#guard.pid !== null) await home.recordGuard(this.#guard.pid);
    const redisUrl = await this.#startRedis();
    signal.throwIfAborted();
    await step(`API on ${client.url}`, () => this.#startApi(redisUrl, signal));
    // The mode is kept from the last start, and the settings may be others by now: this cluster is this command's alone.
    await client.changeMode(this.#options.config.master, { signal });
    await step(`master worker, nodes ${NODES.map(({ id }) => id).join(" ")}`, async () => {
      await this.#startPart("master", "master", { REDIS_URL: redisUrl });
      await this.#startNodes(redisUrl, signal);
    });
    this.#started = true;
  }

  async #startRedis(): Promise<string> {
    const { config, step, home, onEnd } = this.#options;
    if (config.redisUrl !== null) return config.redisUrl.reveal();
    const redis = await step("Redis, private to this folder", () => startLocalRedis({ dir: join(home.dir, "redis") }));
    this.#redis = redis;
    void redis.ended.then((how) => {
      if (this.#started && this.#stopping === null) onEnd("redis", how, null, null);
    });
    return redis.url;
  }

  async #startApi(redisUrl: string, signal: AbortSignal): Promise<void> {
    const { config, port } = this.#options;
    const api = await this.#startPart("api", "api", {
      REDIS_URL: redisUrl,
      STITCH_HOST: config.host,
      STITCH_PORT: String(port),
      STITCH_TOKEN: config.token?.reveal(),
    });
    const ready = (): Promise<boolean> => answersOk(`${this.client.url}/readyz`, signal);
    await untilReady([api], ready, () => "the API does not answer 200 to GET /readyz", READY_LIMIT_MS, signal);
  }

  async #startNodes(redisUrl: string, signal: AbortSignal): Promise<void> {
    // A node that was killed a moment ago may still count as alive: it has to be a newer incarnation than that.
    const before = await this.#nodeResources(signal);
    const incarnationOf = (nodes: readonly NodeResource[], id: string): number =>
      nodes.find((node) => node.id === id)?.incarnation ?? -1;
    const parts = NODES.map(({ id, zone }) =>
      this.#startPart(id, "node", {
        REDIS_URL: redisUrl,
        STITCH_ROLES: "node",
        STITCH_NODE_ID: id,
        STITCH_ZONES: zone,
      }),
    );
    await Promise.all(parts);
    let waitingFor: string[] = [];
    const ready = async (): Promise<boolean> => {
      const now = await this.#nodeResources(signal);
      waitingFor = NODES.map(({ id }) => id).filter(
        (id) =>
          !now.some((node) => node.id === id && node.liveness === "alive") ||
          incarnationOf(now, id) <= incarnationOf(before, id),
      );
      return waitingFor.length === 0;
    };
    const watched = [...this.#parts.values()].filter(({ name }) => name !== "api");
    await untilReady(watched, ready, () => `not alive: ${waitingFor.join(", ")}`, READY_LIMIT_MS, signal);
  }

  async #nodeResources(signal: AbortSignal): Promise<readonly NodeResource[]> {
    return (await this.client.nodes({}, { signal })).items;
  }

  /** A path counts from the folder in which `stitch up` was typed, not from that of the part. */
  #masterSetting(): string | undefined {
    const { masterModule } = this.#options.config;
    return masterModule === null ? undefined : resolve(masterModule);
  }

  /** Starts a part, and again whenever it ends by itself. */
  async #startPart(
    name: string,
    role: "api" | "master" | "node",
    own: Record<string, string | undefined>,
    pauseMs = FIRST_PAUSE_MS,
  ): Promise<Part> {
    const { env, home, watch, onEnd, onBack } = this.#options;
    const state = role === "api" ? {} : { STITCH_STATE_DIR: join(home.dir, name, "state") };
    const part = await startPart({
      name,
      role,
      env: partEnv(env, { ...own, ...state, STITCH_MASTER: this.#masterSetting() }),
      home: home.dir,
      guard: this.#guard,
      watch,
    });
    this.#parts.set(name, part);
    // It was started while the others were being stopped.
    if (this.#stopping !== null) await part.stop();
    const startedAtMs = performance.now();
    void part.ended.then((how) => {
      if (!this.#started || this.#stopping !== null) return;
      const backInMs = performance.now() - startedAtMs > LASTED_MS ? FIRST_PAUSE_MS : pauseMs;
      onEnd(name, how, part, backInMs);
      const nextPauseMs = Math.min(2 * backInMs, MOST_PAUSE_MS);
      const returning = pause(backInMs, this.#ending.signal).then(async () => {
        if (this.#stopping !== null) return;
        await this.#startPart(name, role, own, nextPauseMs).then(
          () => onBack(name, null),
          (error: unknown) => onBack(name, error),
        );
      });
      this.#returning.add(returning);
      void returning.then(() => this.#returning.delete(returning));
    });
    return part;
  }

  /** Nodes first, which need the others to leave in good order; then the master, the API, Redis. Bounded by each. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const { step } = this.#options;
    this.#ending.abort();
    await Promise.all(this.#returning);
    const named = (name: string) => this.#parts.get(name) ?? null;
    const nodes = NODES.map(({ id }) => named(id)).filter((part) => part !== null);
    const rest = ["master", "api"].map(named).filter((part) => part !== null);
    if (nodes.length > 0) await step("nodes stopped", () => Promise.all(nodes.map((node) => node.stop())));
    if (rest.length > 0) {
      await step(`${rest.map(({ name }) => name).join(" and ")} stopped`, async () => {
        for (const part of rest) await part.stop();
      });
    }
    const redis = this.#redis;
    if (redis !== null) await step("Redis stopped", () => redis.stop());
    await this.#guard.close();
  }

  /** Ends everything at once: for a second Ctrl-C. */
  kill(): void {
    for (const part of this.#parts.values()) part.kill();
    this.#redis?.kill("SIGKILL");
  }
}

async function answersOk(url: string, signal: AbortSignal): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_LIMIT_MS)]) });
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TypeError || (error instanceof DOMException && error.name === "TimeoutError")) return false;
    throw error;
  }
}
