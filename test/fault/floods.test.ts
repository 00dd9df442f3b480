import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readProcess } from "../../workers/node/processes/process-table.ts";
import { FAST, type Part, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";
import { logOf } from "../support/stitch-folder.ts";
import { ANSWERS } from "../support/stitch-programs.ts";

const url = REDISES[0]?.url ?? "";
const MIB = 1024 * 1024;
/** A stitch's log on its node's disk. */
const LOG_FILES = 5;
const LOG_BYTES = LOG_FILES * 4 * MIB;
/** A worker takes 130 to 150 MiB, and each test adds 50 to 150. A flood kept in memory would grow by 100 MiB in seconds. */
const MEMORY_BYTES = 500 * MIB;
/** Two lines of this length come at once: kept whole, they would exceed MEMORY_BYTES. */
const LONG_LINE = "256M";
const LIMIT_MS = 100_000;
/** A test lasts for at least this many heartbeats of the neighbour. */
const BEATS = 8;

const folderOf = (cluster: TestCluster) => join(cluster.dir, "state-n1", cluster.name, "n1");

const logsOf = (cluster: TestCluster) => join(folderOf(cluster), "logs");

/** `<id>.log`, and `<id>.log.<number>` for the rotated files. */
const logFiles = (cluster: TestCluster, id: string): string[] =>
  existsSync(logsOf(cluster)) ? readdirSync(logsOf(cluster)).filter((name) => name.startsWith(`${id}.log`)) : [];

const logBytes = (cluster: TestCluster, id: string): number =>
  logFiles(cluster, id)
    .map((name) => statSync(join(logsOf(cluster), name), { throwIfNoEntry: false })?.size ?? 0)
    .reduce((sum, bytes) => sum + bytes, 0);

/** The Ids of the heartbeats that the neighbour has answered, from its own notes. */
const beatsOf = (cluster: TestCluster): number[] =>
  readFileSync(join(folderOf(cluster), "data", "neighbour", "beats"), "utf8")
    .trimEnd()
    .split("\n")
    .map(Number);

/** Short, but not shorter than a machine that is busy with other tests may delay everything. */
const LEASE = { ...FAST, STITCH_LEASE_MS: "7500" };

/** A node with a stitch on it that answers its heartbeats and does nothing else. */
async function withNeighbour(work: (cluster: TestCluster, node: Part) => Promise<void>): Promise<void> {
  await withCluster(url, LEASE, async (cluster) => {
    const node = await cluster.node("n1");
    await cluster.create("n1", "neighbour", ANSWERS, { protocol: "process-v1", heartbeatMs: 1000 });
    await work(cluster, node);
  });
}

/** Creates a stitch that may never come up. */
const start = (cluster: TestCluster, id: string, spec: Record<string, unknown>) =>
  cluster.run({
    command: "stitch.create",
    target: "test.flood.1",
    node: "n1",
    id,
    timeoutMs: 100,
    spec: { adaptor: "process", protocol: "none", ...spec },
  });

/** Creates a stitch and does not start it. */
const create = async (cluster: TestCluster, id: string, spec: Record<string, unknown>) => {
  const { status } = await cluster.run({
    command: "stitch.create",
    target: "test.flood.1",
    node: "n1",
    id,
    start: false,
    spec: { adaptor: "process", protocol: "none", ...spec },
  });
  assert.equal(status, "succeeded");
};

/** A script that writes a `$text` of `bytes` bytes for ever, and notes each write. */
const counted = (bytes: number, write: string): string =>
  `text=$(head -c ${bytes} /dev/zero | tr '\\0' a); while :; do ${write}; echo >> written; done`;

/** How often the stitch has written, from its own notes. */
const writtenBy = (cluster: TestCluster, id: string): number =>
  statSync(join(folderOf(cluster), "data", id, "written"), { throwIfNoEntry: false })?.size ?? 0;

/** Fails if more than `bytes` are taken from a stitch that writes `each` at a time, while nothing has room for them. */
async function heldUp(cluster: TestCluster, node: Part, id: string, bytes: number, each: number): Promise<void> {
  await unharmed(cluster, node, () => writtenBy(cluster, id) > 0);
  const taken = writtenBy(cluster, id);
  assert.ok(taken * each < bytes, `${taken} times ${each} bytes were taken from ${id}`);
}

/** Writes the same message for ever. A shell runs it, because `yes` alone would repeat the node's arguments, too. */
const messages = (text: string) => ({ protocol: "process-v1", command: ["sh", "-c", `yes '${text}\nend'`] });

/**
 * Watches a node until `done`, for at least BEATS heartbeats. Asserts that the neighbour is always green and gets every
 * heartbeat, the node keeps its lease and takes commands, and the worker's memory stays bounded.
 * @returns the share of a core that the worker took meanwhile.
 */
async function unharmed(cluster: TestCluster, node: Part, done: () => boolean | Promise<boolean>): Promise<number> {
  const before = beatsOf(cluster).length;
  const cpuMs = () => readProcess(node.pid)?.cpuMs ?? Number.NaN;
  const from = { cpuMs: cpuMs(), atMs: performance.now() };
  await until(
    "it has gone on for long enough",
    async () => {
      assert.equal((await cluster.master.state.stitch("neighbour")).health, "green");
      const memoryBytes = readProcess(node.pid)?.memoryBytes ?? Number.NaN;
      assert.ok(memoryBytes < MEMORY_BYTES, `the worker takes ${Math.round(memoryBytes / MIB)} MiB`);
      return beatsOf(cluster).length >= before + BEATS && (await done());
    },
    LIMIT_MS,
  );
  const share = (cpuMs() - from.cpuMs) / (performance.now() - from.atMs);
  const beats = beatsOf(cluster);
  assert.deepEqual(
    beats,
    beats.map((_, index) => 2 * (index + 1)),
    "each that was sent has come",
  );
  const ping = await cluster.run({ command: "node.ping", target: "n1" });
  assert.equal(ping.status, "succeeded");
  const { liveness, incarnation } = await cluster.master.state.node("n1");
  assert.deepEqual([liveness, incarnation], ["alive", 1], "its lease has held");
  return share;
}

/** Reading should take a tenth of a core. On a busy machine it takes less, never more: so this cannot fail by chance. */
const paced = (share: number) => assert.ok(share < 0.4, `the worker took ${Math.round(100 * share)} % of a core`);

describe("P14: a stitch that floods harms nobody", { concurrency: 1 }, () => {
  it("twenty stitches that print without end, in ten ways", async () => {
    await withNeighbour(async (cluster, node) => {
      const floods: Record<string, { protocol?: string; command: string[] }> = {
        lines: { command: ["yes"] },
        errors: { command: ["sh", "-c", "yes >&2"] },
        both: { command: ["sh", "-c", "yes >&2 & yes"] },
        binary: { command: ["cat", "/dev/urandom"] },
        "v1-lines": { protocol: "process-v1", command: ["yes"] },
        "v1-errors": { protocol: "process-v1", command: ["sh", "-c", "yes >&2"] },
        "v1-broken": messages('{"Command":'),
        "v1-unknown": messages('{"Command":"dance"}'),
        "v1-logs": messages('{"Command":"logs","Logs":["a","b","c"]}'),
        "v1-to-nobody": messages('{"Command":"data","ToStitchInstanceId":"x","Data":""}'),
      };
      const ids = Object.entries(floods).flatMap(([name, spec]) =>
        [1, 2].map((each) => ({ id: `${name}-${each}`, spec })),
      );
      await Promise.all(ids.map(({ id, spec }) => start(cluster, id, spec)));
      paced(await unharmed(cluster, node, () => ids.every(({ id }) => logBytes(cluster, id) > 10_000)));
      const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: "test.flood" });
      const runOn = items.filter(({ restarts, pid }) => restarts === 0 && pid !== null);
      assert.equal(runOn.length, ids.length, "and each of them runs on");
    });
  });

  it("ten stitches that write the shortest invalid messages", async () => {
    await withNeighbour(async (cluster, node) => {
      const ids = Array.from({ length: 10 }, (_, index) => `broken-${index}`);
      const spec = messages("{");
      await Promise.all(ids.map((id) => start(cluster, id, spec)));
      paced(await unharmed(cluster, node, () => ids.every((id) => logBytes(cluster, id) > 10_000)));
    });
  });

  it("a stitch whose lines begin with { and never become a message", async () => {
    await withNeighbour(async (cluster, node) => {
      await start(cluster, "braces", { protocol: "process-v1", command: ["yes", "{ not a message"] });
      const told = () => logOf(cluster, "n1", "braces").some(({ line }) => line.includes("could not be understood"));
      paced(await unharmed(cluster, node, () => told()));
    });
  });

  it("a very long line is cut, and the next line is read", async () => {
    await withNeighbour(async (cluster, node) => {
      const command = ["sh", "-c", `head -c ${LONG_LINE} /dev/zero | tr '\\0' a; echo; echo done`];
      const restart = { policy: "never" };
      const ids = ["none", "process-v1"];
      await Promise.all(ids.map((protocol) => start(cluster, protocol, { protocol, command, restart })));
      await unharmed(cluster, node, async () => {
        const states = await Promise.all(ids.map(async (id) => (await cluster.master.state.stitch(id)).lastExit));
        return states.every((exit) => exit?.code === 0);
      });
      for (const id of ids) {
        const lines = await until("its log is written", () => {
          const printed = logOf(cluster, "n1", id).filter(({ source }) => source === "stdout");
          return printed.length >= 2 && printed;
        });
        assert.deepEqual(
          lines.map(({ line }) => line.length),
          [64 * 1024, "done".length],
        );
      }
    });
  });

  it("the log stays within its bound, however much a stitch prints", async () => {
    await withNeighbour(async (cluster, node) => {
      await start(cluster, "long", { command: ["sh", "-c", "yes $(head -c 60000 /dev/zero | tr '\\0' a)"] });
      let mostBytes = 0;
      await unharmed(cluster, node, () => {
        mostBytes = Math.max(mostBytes, logBytes(cluster, "long"));
        return logFiles(cluster, "long").some((name) => Number(name.split(".").at(-1)) > LOG_FILES);
      });
      assert.ok(mostBytes > LOG_BYTES / 2 && mostBytes <= LOG_BYTES, `${Math.round(mostBytes / MIB)} MiB at most`);
    });
  });

  /** Blocks a program whose log is a pipe: the pipe takes 64 KiB, and more only when something reads it. */
  const heldByLog = async (cluster: TestCluster, node: Part): Promise<string> => {
    await create(cluster, "held", { command: ["sh", "-c", counted(60_000, "echo $text")] });
    const log = join(logsOf(cluster), "held.log");
    mkdirSync(logsOf(cluster), { recursive: true });
    execFileSync("mkfifo", [log]);
    await cluster.run({ command: "stitch.start", target: "held" });
    await heldUp(cluster, node, "held", 2 * MIB, 60_000);
    return log;
  };

  it("a stitch whose log takes nothing is not read until the log takes lines again", async () => {
    await withNeighbour(async (cluster, node) => {
      const log = await heldByLog(cluster, node);
      const before = writtenBy(cluster, "held");
      const reader = spawn("cat", [log], { stdio: ["ignore", "ignore", "inherit"] });
      try {
        await until("it is read on", () => writtenBy(cluster, "held") > before + 100, LIMIT_MS);
      } finally {
        await node.kill("SIGTERM");
        reader.kill();
      }
    });
  });

  it("a stitch whose log takes nothing does not keep its worker from ending", async () => {
    await withNeighbour(async (cluster, node) => {
      await heldByLog(cluster, node);
      assert.equal(await node.kill("SIGTERM"), 0);
    });
  });

  it("a stitch that sends to one whose inbox stays full: messages without room become dead letters", async () => {
    await withNeighbour(async (cluster, node) => {
      const send = `printf '{"Command":"data","ToStitchInstanceId":"full","Data":"%s"}\\nend\\n' $text`;
      await create(cluster, "full", { protocol: "process-v1", command: ANSWERS });
      const { redis, keys } = cluster.open;
      // As if 950 messages waited for it already.
      await redis.hset(keys.nodeInboxLoad("n1"), "n:full", 950);
      await start(cluster, "sends", { protocol: "process-v1", command: ["sh", "-c", counted(10_000, send)] });
      const why = ({ line }: { line: string }) => line.includes("the inbox of full is full");
      // A page is bounded in bytes, too.
      const letters = async () =>
        (await cluster.master.routing.deadLetters({ limit: 500, cursor: null }, {})).items.length;
      await unharmed(cluster, node, async () => logOf(cluster, "n1", "sends").some(why) && (await letters()) > 100);
    });
  });

  it("fifty children with a child each count as the stitch's own, and end when it stops", async () => {
    await withNeighbour(async (cluster, node) => {
      const child = "sleep 600 & wait";
      const family = `for i in $(seq 50); do sh -c '${child}' & done; wait`;
      await cluster.create("n1", "single", ["sleep", "600"]);
      await cluster.create("n1", "family", ["sh", "-c", family]);
      const itsProcesses = () => processesOf(join(folderOf(cluster), "data", "family"));
      await until("all have started", async () => (await itsProcesses()).length === 101);
      await unharmed(cluster, node, async () => {
        const [one = 0, all = 0] = await Promise.all(
          ["single", "family"].map(async (id) => (await cluster.master.state.stitch(id)).resources?.memoryBytes),
        );
        return one > 0 && all > 50 * one;
      });
      const stopped = await cluster.run({ command: "stitch.stop", target: "family" });
      assert.equal(stopped.status, "succeeded");
      assert.deepEqual(await itsProcesses(), []);
    });
  });

  it("fifty stitches that exit at once and are started again at once", async () => {
    await withNeighbour(async (cluster, node) => {
      const restart = { maxRestarts: 10_000, windowMs: 86_400_000, backoffMs: 10, maxBackoffMs: 10 };
      const created = await cluster.run(
        {
          command: "stitch.create",
          target: "test.crash.1",
          node: "n1",
          count: 50,
          spec: { adaptor: "process", protocol: "none", command: ["sh", "-c", "echo no >&2; exit 1"], restart },
        },
        null,
        90_000,
      );
      assert.equal(created.counts.failed, 50, JSON.stringify(created.counts));
      await unharmed(cluster, node, async () => {
        const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: "test.crash" });
        return items.filter(({ restarts }) => restarts >= 5).length === 50;
      });
      assert.ok(logBytes(cluster, created.stitches[0]?.split(":")[1] ?? "") < LOG_BYTES);
    });
  });
});
