import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { LogBatch } from "../../../src/domain/stitch/log-line.ts";
import { LogFollower } from "../../../workers/node/logs/log-follower.ts";
import { StitchLog } from "../../../workers/node/logs/stitch-log.ts";
import { until } from "../../support/cluster.ts";

const root = mkdtempSync(join(tmpdir(), "cs-follow-"));
after(() => rmSync(root, { recursive: true, force: true }));
let made = 0;

type Send = (number: number, batch: LogBatch) => Promise<"ok" | "full" | "gone">;

/** Follows a log from its beginning, and keeps what was taken. */
function start(reply: Send = async () => "ok", limits = { fileBytes: 1000, files: 3 }) {
  const log = new StitchLog(join(root, `${++made}`, "a.log"), (error) => assert.fail(String(error)), limits);
  const stopping = new AbortController();
  const taken = new Map<number, LogBatch>();
  let removed = false;
  const follower = new LogFollower({
    log,
    from: { file: 1, offset: 0 },
    isRemoved: () => removed,
    send: async (number, batch) => {
      const answer = await reply(number, batch);
      if (answer === "ok") taken.set(number, batch);
      return answer;
    },
    nowMs: Date.now,
  });
  return {
    log,
    taken,
    stopping,
    remove: () => {
      removed = true;
    },
    print: (...lines: string[]) => {
      for (const line of lines) void log.write("stdout", line, 0);
    },
    texts: () => [...taken.values()].flatMap(({ lines }) => lines.map(({ line }) => line)),
    ended: follower.run(stopping.signal).finally(() => log.close()),
  };
}

test("sends lines as they are written, numbers batches from 1, and says after each line where to go on", async () => {
  const follow = start();
  follow.print("one", "two");
  await until("they came", () => follow.texts().length === 2);
  follow.print("three");
  await until("it came", () => follow.texts().length === 3);
  follow.stopping.abort();
  await follow.ended;
  assert.deepEqual(follow.texts(), ["one", "two", "three", "the node is leaving: its log ends here"]);
  const batches = [...follow.taken.values()];
  assert.deepEqual(
    [...follow.taken.keys()],
    batches.map((_, index) => index + 1),
  );
  assert.deepEqual(
    batches.map(({ last }) => last),
    batches.map((_, index) => index === batches.length - 1),
  );
  const [first] = batches[0]?.lines ?? [];
  assert.deepEqual(
    [first?.source, first?.at, /^1\.\d+$/.test(first?.after ?? "")],
    ["stdout", new Date(0).toISOString(), true],
  );
});

test("a silent log sends an empty batch, so that each side notices if the other is gone", async () => {
  const follow = start(async (number) => (number === 1 ? "ok" : "gone"));
  await follow.ended;
  assert.deepEqual([...follow.taken], [[1, { lines: [], last: false }]]);
});

test("sends a batch again under the same number if the reader has no room, or after a failure", async () => {
  const replies = ["full", new Error("Redis is away"), "full", "ok"] as const;
  const numbers: number[] = [];
  const follow = start(async (number) => {
    numbers.push(number);
    const reply = replies[numbers.length - 1] ?? "ok";
    if (reply instanceof Error) throw reply;
    return reply;
  });
  follow.print("a line");
  await until("it came", () => follow.texts().length === 1);
  follow.stopping.abort();
  await follow.ended;
  assert.deepEqual(numbers.slice(0, 5), [1, 1, 1, 1, 2]);
});

test("reports what was rotated away while the reader was behind, and still sends all that is kept", async () => {
  let full = true;
  const inHand = Promise.withResolvers<void>();
  const follow = start(async (_, { lines }) => {
    if (lines.length > 0) inHand.resolve();
    return full ? "full" : "ok";
  });
  follow.print("first");
  await inHand.promise;
  follow.print(...Array.from({ length: 100 }, (_, n) => `line ${n}`));
  const kept = (await follow.log.tail(1000)).lines.map(({ line }) => line);
  assert.ok(kept.length < 60);
  full = false;
  await until("the newest came", () => follow.texts().at(-1) === "line 99");
  follow.stopping.abort();
  await follow.ended;
  const texts = follow.texts();
  const told = texts.indexOf(
    "lines were lost here: their file was put aside and deleted, or taken away, before they were read",
  );
  assert.ok(told >= 0, texts.join());
  assert.deepEqual(texts.slice(told + 1, -1), kept);
});

test("for a removed stitch, sends what it wrote before, then the end", async () => {
  const follow = start();
  follow.print("last words");
  follow.remove();
  await follow.ended;
  assert.deepEqual(follow.texts(), ["last words", "the stitch was removed: its log ends here"]);
});

test("does not wait for a reader without room when the node is leaving", async () => {
  const follow = start(async () => "full");
  follow.print("never read");
  follow.stopping.abort();
  await follow.ended;
  assert.deepEqual(follow.texts(), []);
});
