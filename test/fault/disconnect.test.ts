// What happens to stitches when their node cannot reach Redis for as long as its lease (P9).
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { STOP_WINDOW_MS } from "../../workers/node/processes/watchdog.ts";
import { isRunning } from "../support/process-list.ts";
import { openSilentProxy, type SilentProxy } from "../support/silent-proxy.ts";
import { dataDirOf, journalOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const LEASE_MS = 6000;
/** How late a test may see the end of a process on a busy machine. */
const SEEN_MS = 1000;
const SETTINGS = {
  STITCH_HEARTBEAT_MS: "500",
  STITCH_LEASE_MS: String(LEASE_MS),
  STITCH_DEAD_AFTER_MS: "1000",
  STITCH_MODULES: `habits=${join(import.meta.dirname, "../support/modules/habits.mjs")}`,
};
const alone = (habit: string): string[] => [
  process.execPath,
  join(import.meta.dirname, "../support/stitches/alone.ts"),
  "--",
  habit,
];

type Entry = { event?: string; hook?: string; pid: number; atMs: number };

/** Stitches on n1, and what they left behind. */
class Stitches {
  readonly #cluster: TestCluster;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
  }

  journal = (id: string) => journalOf(this.#cluster, "n1", id) as Entry[];
  look = (id: string) => this.#cluster.master.state.stitch(id);
  events = (id: string) => this.journal(id).map(({ event, hook }) => event ?? hook);
  /** The pid of each start, in order. */
  starts = (id: string) => this.journal(id).flatMap(({ event, pid }) => (event === "start" ? [pid] : []));
  runs = (id: string) => this.starts(id).filter(isRunning);
  system = (id: string) =>
    logOf(this.#cluster, "n1", id).flatMap(({ source, line }) => (source === "system" ? [line] : []));

  create(id: string, habit: string, onDisconnect: "keep" | "stop", more: Record<string, unknown> = {}) {
    // SIGTERM does not end `stays`, and its grace is longer than a stop may take here: the limit of the stop ends it.
    const stopGraceMs = habit === "stays" ? 60_000 : 5000;
    return this.#cluster.create("n1", id, alone(habit), { protocol: "process-v1", onDisconnect, stopGraceMs, ...more });
  }

  async createModule(id: string, onDisconnect: "keep" | "stop") {
    const spec = { adaptor: "module", module: "habits", onDisconnect };
    const job = await this.#cluster.run({ command: "stitch.create", target: "test.plain.1", id, spec });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
  }

  /** Creates stitches of every kind that must not outlive the lease. */
  async createMortals() {
    await Promise.all([
      this.create("ends", "ends", "stop"),
      this.create("finishes", "finishes", "stop"),
      this.create("stays", "stays", "stop"),
      this.create("once", "ends", "stop", { restart: { policy: "never" } }),
    ]);
  }

  /**
   * Resolves when the stitches that must not outlive the lease are gone. Fails if one outlives the lease by more than a stop
   * may take.
   * @param cutAtMs when the node lost Redis, or its worker hung: the lease was renewed for the last time before that.
   */
  async mortalsEnd(cutAtMs = Date.now()) {
    const gone = async (id: string) => {
      await until(`${id} is gone`, () => this.runs(id).length === 0);
      assertInTime(id, Date.now(), cutAtMs);
    };
    await Promise.all(MORTALS.map(gone));
    assert.deepEqual(this.events("finishes").slice(0, 3), ["start", "SIGTERM", "end"], "it had its grace");
    assert.deepEqual(this.events("stays").slice(0, 2), ["start", "SIGTERM"], "it was asked first");
  }

  /** Resolves when these stitches run again, with one process each, and the cluster shows this. */
  async mortalsAreBack() {
    for (const id of MORTALS) {
      const stitch = await until(`${id} runs again`, async () => {
        const { state, pid } = await this.look(id);
        return state === "running" && pid === this.runs(id)[0];
      });
      assert.ok(stitch);
      assert.equal(this.runs(id).length, 1);
      assert.ok(!this.events(id).includes("two"), `${id}: never two`);
      await until(`the log of ${id} says why`, () =>
        this.system(id).some((line) => line.startsWith("stopped: its node has lost Redis for as long as its lease")),
      );
      const { restarts, desired } = await this.look(id);
      assert.deepEqual([restarts, desired], [0, "running"], "that is nothing for its policy to count");
    }
    const { lastExit } = await this.look("stays");
    assert.equal(lastExit?.signal, "SIGKILL");
  }
}

/** Fails if it ended later than the end of the lease plus the time that a stop may take. */
function assertInTime(what: string, endedAtMs: number, cutAtMs: number): void {
  const lateMs = endedAtMs - (cutAtMs + LEASE_MS + STOP_WINDOW_MS + SEEN_MS);
  assert.ok(lateMs <= 0, `${what} ran ${lateMs} ms too long`);
}

const MORTALS = ["ends", "finishes", "stays", "once"];

/** The end of n1's lease on Redis's clock, which is this machine's. For its worker it ends at most half a lease earlier. */
const leaseOf = async ({ open: { redis, keys } }: TestCluster): Promise<number> =>
  Number(await redis.hget(keys.nodeMeta("n1"), "leaseUntil"));

async function withProxy(work: (proxy: SilentProxy) => Promise<void>): Promise<void> {
  const proxy = await openSilentProxy(url);
  try {
    await work(proxy);
  } finally {
    await proxy.close();
  }
}

describe("a node without Redis for longer than its lease (P9)", { concurrency: 2 }, () => {
  it("Redis hangs: stitches with onDisconnect stop end with the lease, others run on; later all run again", async () => {
    const dir = mkdtempSync(join(tmpdir(), "cs-redis-"));
    const redis = await startLocalRedis({ dir, port: 0 });
    try {
      await withCluster(redis.url, SETTINGS, async (cluster) => {
        const stitches = new Stitches(cluster);
        await cluster.node("n1");
        await Promise.all([
          stitches.createMortals(),
          stitches.create("kept", "ends", "keep"),
          stitches.createModule("module", "stop"),
          stitches.createModule("kept-module", "keep"),
        ]);
        const leaseUntilMs = await leaseOf(cluster);
        redis.kill("SIGSTOP");
        const cutAtMs = Date.now();
        await stitches.mortalsEnd(cutAtMs);
        await until("the module is stopped", () => stitches.events("module").at(-1) === "stop");
        assertInTime("the module", Date.now(), cutAtMs);
        for (const id of MORTALS) {
          const asked = stitches.journal(id).find(({ event }) => event === "SIGTERM");
          assert.ok(asked !== undefined && asked.atMs >= leaseUntilMs - LEASE_MS / 2, `${id}: not before`);
        }
        const kept = stitches.runs("kept");
        assert.deepEqual(stitches.events("kept"), ["start"]);
        assert.ok(!stitches.events("kept-module").includes("stop"));
        redis.kill("SIGCONT");
        await stitches.mortalsAreBack();
        await until(
          "the module is back",
          () => stitches.events("module").filter((hook) => hook === "start").length === 2,
        );
        assert.deepEqual([stitches.runs("kept"), (await stitches.look("kept")).pid], [kept, kept[0]]);
        assert.deepEqual(stitches.events("kept"), ["start"]);
        assert.equal(stitches.events("kept-module").filter((hook) => hook === "start").length, 1);
        const { items } = await cluster.master.state.events(null, 1000);
        for (const id of [...MORTALS, "module"])
          assert.ok(
            items.some(
              ({ type, stitch, data }) =>
                type === "stitch.stopped" && stitch === `n1:${id}` && data?.["reason"] === "disconnected",
            ),
            id,
          );
        assert.ok(items.some(({ type }) => type === "node.back"));
      });
    } finally {
      redis.kill("SIGCONT");
      await redis.stop();
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it("the worker hangs: its stitches still end with the lease, and run again when the worker goes on", async () => {
    await withCluster(url, SETTINGS, async (cluster) => {
      const stitches = new Stitches(cluster);
      const worker = await cluster.node("n1");
      await Promise.all([
        stitches.createMortals(),
        stitches.create("kept", "ends", "keep"),
        stitches.createModule("module", "stop"),
      ]);
      const leaseUntilMs = await leaseOf(cluster);
      worker.child.kill("SIGSTOP");
      await stitches.mortalsEnd();
      for (const id of MORTALS) {
        const asked = stitches.journal(id).find(({ event }) => event === "SIGTERM");
        assert.ok(asked !== undefined && asked.atMs >= leaseUntilMs - LEASE_MS / 2, `${id}: not before`);
      }
      assert.equal(stitches.runs("kept").length, 1);
      await until("its lease is over", async () => (await cluster.master.state.node("n1")).liveness !== "alive");
      worker.child.kill("SIGCONT");
      await stitches.mortalsAreBack();
      await until(
        "the module is back",
        () => stitches.events("module").filter((hook) => hook === "start").length === 2,
      );
      assert.deepEqual(
        stitches.events("module").filter((hook) => hook !== "heartbeat"),
        ["start", "abort", "stop", "start"],
      );
      assert.deepEqual(stitches.events("kept"), ["start"]);
      const { liveness, incarnation } = await cluster.master.state.node("n1");
      assert.equal(liveness, "alive");
      assert.ok(incarnation >= 2);
    });
  });

  it("the worker hangs: when a stitch ends with the lease, processes that left its process group end too", async () => {
    await withCluster(url, SETTINGS, async (cluster) => {
      const stitches = new Stitches(cluster);
      const worker = await cluster.node("n1");
      /** One process leaves the process group and starts another, whose environment does not show its origin. */
      const script = `setsid sh -c 'env -i sleep 600 & echo $$ $! > left.new; mv left.new left; wait' & exec sleep 600`;
      const left = (id: string): number[] => {
        const path = join(dataDirOf(cluster, "n1", id), "left");
        return existsSync(path) ? readFileSync(path, "utf8").trim().split(" ").map(Number) : [];
      };
      const ids = ["mortal", "kept"];
      for (const id of ids) {
        const onDisconnect = id === "mortal" ? "stop" : "keep";
        await cluster.create("n1", id, ["sh", "-c", script], { onDisconnect, stopGraceMs: 100 });
        await until(`${id} has two that left`, () => left(id).length === 2);
      }
      const [mortal, kept] = ids.map(left);
      assert.ok(mortal && kept);
      worker.child.kill("SIGSTOP");
      const cutAtMs = Date.now();
      await until("they are gone", () => !mortal.some(isRunning));
      assertInTime("what has left", Date.now(), cutAtMs);
      assert.deepEqual(kept.map(isRunning), [true, true]);
      assert.deepEqual(left("mortal"), mortal, "it does not run again meanwhile");
      worker.child.kill("SIGCONT");
      await until("it is back", async () => {
        const { state } = await stitches.look("mortal");
        return state === "running" && left("mortal")[0] !== mortal[0];
      });
      // An act that was due before the stitch ended, and comes late, would have hit the new processes by then.
      const { redis, keys } = cluster.open;
      const beats = async () => Number(await redis.hget(keys.nodeMeta("n1"), "beats"));
      const before = await beats();
      await until("the node has beaten four times more", async () => (await beats()) >= before + 4);
      assert.deepEqual([...left("mortal"), ...kept].map(isRunning), [true, true, true, true]);
    });
  });

  it("cut off: a command sent meanwhile is obeyed; stitches that had ended or failed by themselves stay so", async () => {
    await withProxy(async (proxy) => {
      await withCluster(url, SETTINGS, async (cluster) => {
        const stitches = new Stitches(cluster);
        await cluster.node("n1", { REDIS_URL: proxy.url });
        await Promise.all([
          stitches.createMortals(),
          stitches.create("unwanted", "ends", "stop"),
          stitches.create("unwanted-kept", "ends", "keep"),
        ]);
        const oneOff = { protocol: "none", restart: { policy: "never" } };
        await cluster.create("n1", "done", ["sh", "-c", "echo >> runs"], { ...oneOff, onDisconnect: "stop" });
        await stitches.create("failed", "ends", "stop", { restart: { policy: "never" } });
        process.kill(stitches.starts("failed")[0] ?? assert.fail(), "SIGKILL");
        await until("it has failed", async () => (await stitches.look("failed")).state === "failed");
        proxy.fallSilent();
        const cutAtMs = Date.now();
        const stops = await Promise.all(
          ["unwanted", "unwanted-kept"].map((target) =>
            cluster.run({ command: "stitch.stop", target, waitForNode: true }, null, 0),
          ),
        );
        await stitches.mortalsEnd(cutAtMs);
        await until("so does what is not wanted", () => stitches.runs("unwanted").length === 0);
        assert.equal(stitches.runs("unwanted-kept").length, 1);
        proxy.speak();
        for (const { id } of stops) assert.equal((await cluster.master.commands.job(id, 60_000)).status, "succeeded");
        await stitches.mortalsAreBack();
        for (const id of ["unwanted", "unwanted-kept"]) {
          const { desired, state } = await stitches.look(id);
          assert.deepEqual([desired, state, stitches.runs(id)], ["stopped", "stopped", []]);
        }
        assert.deepEqual([(await stitches.look("failed")).state, stitches.starts("failed").length], ["failed", 1]);
        const runs = join(cluster.dir, "state-n1", cluster.name, "n1", "data", "done", "runs");
        assert.equal(readFileSync(runs, "utf8"), "\n", "what has run to its end is not run again");
      });
    });
  });

  it("only Redis's replies are lost: the lease ends for the node alone, and its stitches still come back", async () => {
    await withProxy(async (proxy) => {
      // In Redis, the last heartbeat that arrives keeps the lease until after the next heartbeat that Redis answers.
      const settings = { ...SETTINGS, STITCH_HEARTBEAT_MS: "2000", STITCH_LEASE_MS: "6000" };
      await withCluster(url, settings, async (cluster) => {
        const stitches = new Stitches(cluster);
        await cluster.node("n1", { REDIS_URL: proxy.url });
        await stitches.createMortals();
        proxy.fallSilent("replies");
        await stitches.mortalsEnd();
        proxy.speak();
        await stitches.mortalsAreBack();
      });
    });
  });

  it("registering again fails half-way: the node repeats it until it succeeds", async () => {
    await withProxy(async (proxy) => {
      await withCluster(url, SETTINGS, async (cluster) => {
        const stitches = new Stitches(cluster);
        const { redis, keys } = cluster.open;
        await cluster.node("n1", { REDIS_URL: proxy.url });
        await Promise.all([stitches.createMortals(), stitches.create("kept", "ends", "keep")]);
        proxy.fallSilent();
        await stitches.mortalsEnd();
        await redis.del(keys.nodeStitches("n1"));
        // A key of another type: what Redis holds about the node's stitches cannot be read.
        await redis.set(keys.nodeRemoved("n1"), "in the way");
        const { incarnation } = await cluster.master.state.node("n1");
        proxy.speak();
        await until("it has its lease again", async () => {
          const node = await cluster.master.state.node("n1");
          return node.incarnation > incarnation && node.liveness === "alive";
        });
        await until("it beats", async () => Number(await redis.hget(keys.nodeMeta("n1"), "beats")) >= 2);
        await redis.del(keys.nodeRemoved("n1"));
        const kept = await until("what it has is known again", () => stitches.look("kept").catch(() => null));
        assert.equal(kept.state, "running");
        await stitches.mortalsAreBack();
      });
    });
  });
});

describe("a watchdog that is killed", { concurrency: 2 }, () => {
  const stateOf = (cluster: TestCluster): string => join(cluster.dir, "state-n1", cluster.name, "n1");
  const ownerOf = (cluster: TestCluster): { pid: number; watchdogPid: number } =>
    JSON.parse(readFileSync(join(stateOf(cluster), "owner.json"), "utf8"));

  /** Is there a process that has a lock on this file? */
  const isLocked = (path: string): boolean => readFileSync("/proc/locks", "utf8").includes(`:${statSync(path).ino} `);

  /** Kills the watchdog with kill -9; resolves when another one has replaced it. */
  const replaceWatchdog = async (cluster: TestCluster): Promise<number> => {
    const { watchdogPid } = ownerOf(cluster);
    assert.ok(isRunning(watchdogPid));
    process.kill(watchdogPid, "SIGKILL");
    const next = await until("another is on record", () => {
      const { watchdogPid: now } = ownerOf(cluster);
      return now === watchdogPid ? null : now;
    });
    assert.ok(isRunning(next));
    return next;
  };

  it("is replaced, and the new one ends every stitch when the worker is killed (P21)", async () => {
    await withCluster(url, SETTINGS, async (cluster) => {
      const stitches = new Stitches(cluster);
      const worker = await cluster.node("n1");
      await stitches.create("before", "stays", "keep");
      const watchdog = await replaceWatchdog(cluster);
      await stitches.create("after", "stays", "keep");
      await worker.kill("SIGKILL");
      for (const id of ["before", "after"]) await until(`${id} is gone`, () => stitches.runs(id).length === 0);
      await until("so is the watchdog", () => !isRunning(watchdog));
    });
  });

  it("is replaced, and the new one ends the stitches that must not outlive the lease", async () => {
    await withCluster(url, SETTINGS, async (cluster) => {
      const stitches = new Stitches(cluster);
      const worker = await cluster.node("n1");
      await Promise.all([stitches.createMortals(), stitches.create("kept", "ends", "keep")]);
      await replaceWatchdog(cluster);
      worker.child.kill("SIGSTOP");
      await stitches.mortalsEnd();
      assert.equal(stitches.runs("kept").length, 1);
      worker.child.kill("SIGCONT");
      await stitches.mortalsAreBack();
    });
  });

  it("is replaced, and the next worker waits until the new one has ended the former worker's stitches", async () => {
    await withCluster(url, SETTINGS, async (cluster) => {
      const stitches = new Stitches(cluster);
      const first = await cluster.node("n1");
      await stitches.create("a", "stays", "keep");
      const watchdog = await replaceWatchdog(cluster);
      process.kill(watchdog, "SIGSTOP");
      await first.kill("SIGKILL");
      const [orphan = 0] = stitches.runs("a");
      const next = cluster.node("n1");
      await until("the next one has the folder", () => isLocked(join(stateOf(cluster), "owner.lock")));
      assert.ok(ownerOf(cluster).pid === first.pid && isRunning(orphan), "and waits");
      process.kill(watchdog, "SIGCONT");
      await next;
      await until("it runs again", () => stitches.starts("a").length === 2);
      assert.ok(!stitches.events("a").includes("two"));
    });
  });
});
