import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { loadConfig } from "../../src/config.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { type JobResource, jobResource } from "../../src/contract/job.ts";
import { packageFolder } from "../../src/package-folder.ts";
import { openMaster, type OpenMaster, type OpenMasterOptions } from "../../src/master/open-master.ts";
import { QueueWorker } from "../../src/queue/queue-worker.ts";
import { processesOf } from "./process-list.ts";

const MAIN = join(packageFolder(), "src/cli/stitch.mjs");
const START_MS = 60_000;
/** Longer than a test, so that a slow node is not lost. A test that waits for the end of a lease sets its own. */
const LONG_LEASE_MS = "60000";

/** The Redis servers that every integration test runs on. `npm test` starts them. */
export const REDISES = [
  { name: "standalone Redis", url: process.env["TEST_REDIS_URL"] ?? "redis://127.0.0.1:6379" },
  { name: "Redis Cluster", url: process.env["TEST_REDIS_CLUSTER_URL"] ?? "" },
].filter(({ url }) => url !== "");

/** Resolves with the first value that is not null, undefined or false; fails with `what` after `limitMs`. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  limitMs = 30_000,
): Promise<Exclude<T, null | undefined | false>> {
  for (const endMs = Date.now() + limitMs; ; ) {
    const value = await look();
    if (value !== null && value !== undefined && value !== false) return value as Exclude<T, null | undefined | false>;
    if (Date.now() > endMs) assert.fail(`not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A part of the cluster as a real process in an empty folder of its own. */
export class Part {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  output = "";

  /** @param through a command that becomes the part (exec), for example in another namespace. */
  constructor(args: readonly string[], env: Record<string, string>, cwd: string, through: readonly string[]) {
    const [file, ...before] = through;
    const command = [...(file === undefined ? [] : [...before, process.execPath]), MAIN, ...args];
    this.child = spawn(file ?? process.execPath, command, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.child.stderr?.on("data", (text: Buffer) => (this.output += text.toString()));
    this.exited = new Promise((resolve) => this.child.once("close", (code) => resolve(code)));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  async kill(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return this.exited;
  }
}

/** A cluster for one test, under a name of its own: real processes, and a Master in this process to talk to it. */
export class TestCluster {
  readonly name = `t${randomBytes(6).toString("hex")}`;
  readonly dir = mkdtempSync(join(tmpdir(), "cs-"));
  readonly redisUrl: string;
  readonly errors: unknown[] = [];
  /** See `Part`. It applies to the parts that are started after it is set. */
  through: (cwd: string) => readonly string[] = () => [];
  readonly #parts: Part[] = [];
  readonly #env: Readonly<Record<string, string>>;
  /** Which Master the test's own is: the same as that of the processes. */
  get #chosen(): ChosenMaster {
    const { master } = loadConfig({
      STITCH_MASTER: this.#env["STITCH_MASTER"],
      STITCH_MASTER_PREFERRED: this.#env["STITCH_MASTER_PREFERRED"],
      STITCH_LEADER_LEASE: this.#env["STITCH_LEADER_LEASE"],
      STITCH_LEADER_LEASE_MS: this.#env["STITCH_LEADER_LEASE_MS"],
    });
    return master;
  }
  #open: OpenMaster | null = null;

  constructor(redisUrl: string, env: Readonly<Record<string, string>> = {}) {
    this.redisUrl = redisUrl;
    this.#env = env;
  }

  async start(differs: Partial<OpenMasterOptions> = {}): Promise<this> {
    this.#open = await this.openMaster("test", { checkFirst: true, ...differs });
    return this;
  }

  /** Another Master of this cluster, on connections of its own; the caller closes it. */
  openMaster(id: string, differs: Partial<OpenMasterOptions> = {}): Promise<OpenMaster> {
    return openMaster({
      redisUrl: this.redisUrl,
      cluster: this.name,
      chosen: this.#chosen,
      wrap: null,
      id,
      heartbeatMs: Number(this.#env["STITCH_HEARTBEAT_MS"] ?? 2000),
      leaseMs: Number(this.#env["STITCH_LEASE_MS"] ?? 7500),
      deadAfterMs: Number(this.#env["STITCH_DEAD_AFTER_MS"] ?? 2000),
      jobRetentionMs: 3_600_000,
      candidacy: {
        leaseMs: Number(this.#env["STITCH_LEADER_LEASE_MS"] ?? 6000),
        openWorker: (queue) => new QueueWorker(queue),
      },
      onError: (error) => this.errors.push(error),
      connectTimeoutMs: 10_000,
      checkFirst: false,
      ...differs,
    });
  }

  get open(): OpenMaster {
    if (this.#open === null) throw new Error("start() first");
    return this.#open;
  }
  get master() {
    return this.open.master;
  }

  /** The settings of a process of this cluster. */
  env(more: Record<string, string> = {}): Record<string, string> {
    return {
      PATH: process.env["PATH"] ?? "",
      HOME: this.dir,
      REDIS_URL: this.redisUrl,
      STITCH_CLUSTER: this.name,
      STITCH_LEASE_MS: LONG_LEASE_MS,
      ...this.#env,
      ...more,
    };
  }

  /** Starts `stitch <args>`; does not wait for it. */
  part(args: readonly string[], more: Record<string, string> = {}): Part {
    const cwd = join(this.dir, `p${this.#parts.length}`);
    mkdirSync(cwd);
    const part = new Part(args, this.env(more), cwd, this.through(cwd));
    this.#parts.push(part);
    return part;
  }

  /** Starts a node worker. Resolves when this incarnation is alive and started up: it takes tasks and reads its inbox. */
  async node(id: string, more: Record<string, string> = {}): Promise<Part> {
    const before = await until(`what has been of ${id} is known`, () =>
      this.master.state.node(id).then(
        (node) => node.incarnation,
        (error: unknown) => (error instanceof RequestError && error.code === "not_found" ? 0 : null),
      ),
    );
    const part = this.part(["node"], {
      STITCH_NODE_ID: id,
      STITCH_ROLES: "node",
      STITCH_STATE_DIR: join(this.dir, `state-${id}`),
      ...more,
    });
    await until(
      `${id} is alive`,
      async () => {
        if (part.child.exitCode !== null) assert.fail(`${id} ended at its start:\n${part.output}`);
        if (!part.output.includes("is in the cluster")) return false;
        return this.master.state.node(id).then(
          (node) => node.liveness === "alive" && node.incarnation > before,
          () => false,
        );
      },
      START_MS,
    );
    return part;
  }

  async masterWorker(more: Record<string, string> = {}): Promise<Part> {
    const part = this.part(["master"], more);
    await until("the master tends", async () => (await this.master.state.cluster()).masters.length > 0, START_MS);
    return part;
  }

  /** An API process on a free port; `url` is where it listens. */
  async api(more: Record<string, string> = {}): Promise<{ part: Part; url: string }> {
    const part = this.part(["api"], { STITCH_PORT: "0", ...more });
    const url = await until(
      "the API listens",
      () => {
        if (part.child.exitCode !== null) assert.fail(`the API ended at its start:\n${part.output}`);
        return /http:\/\/[\d.]+:\d+/.exec(part.output)?.[0];
      },
      START_MS,
    );
    return { part, url };
  }

  /** Sends a command to the Master in this process and waits for the job's end. */
  async run(
    body: { command: CommandName } & Record<string, unknown>,
    key: string | null = null,
    waitMs = 60_000,
  ): Promise<JobResource> {
    const submitted = await this.master.commands.submit({
      command: COMMANDS[body.command].schema.parse(body),
      idempotencyKey: key,
      scope: "",
      by: null,
      waitMs,
    });
    if (submitted.kind !== "job") assert.fail();
    return jobResource.parse(submitted.job);
  }

  /** Creates a stitch that runs `command` and counts as healthy as soon as it is up. Fails if it does not come up. */
  async create(
    node: string,
    id: string,
    command: readonly string[],
    spec: Record<string, unknown> = {},
  ): Promise<JobResource> {
    const job = await this.run({
      command: "stitch.create",
      target: "test.stitch.1",
      node,
      id,
      spec: { adaptor: "process", protocol: "none", command, minHealthyMs: 0, ...spec },
    });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    return job;
  }

  /** Ends everything, and fails if a process of this cluster is left. */
  async stop(): Promise<void> {
    await Promise.all(
      this.#parts.map(async (part) => {
        if (part.child.exitCode !== null || part.child.signalCode !== null) return;
        part.child.kill("SIGCONT");
        part.child.kill("SIGTERM");
        const timer = setTimeout(() => part.child.kill("SIGKILL"), 15_000);
        await part.exited;
        clearTimeout(timer);
      }),
    );
    this.#open?.close();
    await until("no process is left", async () => (await processesOf(this.dir)).length === 0, 30_000).catch(async () =>
      assert.fail(`left behind: ${(await processesOf(this.dir)).join("\n")}`),
    );
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Runs `work` with a cluster of its own, and ends it whatever happens. */
export async function withCluster(
  redisUrl: string,
  env: Readonly<Record<string, string>>,
  work: (cluster: TestCluster) => Promise<void>,
): Promise<void> {
  const cluster = new TestCluster(redisUrl, env);
  try {
    await cluster.start();
    await work(cluster);
  } catch (error) {
    // Processes that are left behind are then a consequence, and must not hide the cause.
    await cluster.stop().catch((left: unknown) => assert.fail(`${inspect(error)}\nafter which ${inspect(left)}`));
    throw error;
  }
  await cluster.stop();
}

/** A short lease, so that a death is seen soon; yet fifteen heartbeats long, for a machine that is busy with other tests. */
export const FAST = { STITCH_HEARTBEAT_MS: "200", STITCH_LEASE_MS: "3000", STITCH_DEAD_AFTER_MS: "500" };
