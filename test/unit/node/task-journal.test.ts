import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { Dispatch } from "../../../src/domain/job/job.ts";
import { WorkerLeaves } from "../../../workers/node/stitches/hosted-stitch.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { PING_TASK } from "../../support/ping-job.ts";
import { TaskJournal } from "../../../workers/node/tasks/task-journal.ts";
import { testStitch } from "../../support/test-stitch.ts";

function journaling(t: TestContext, more: { mostCharacters?: number } = {}) {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const disk = new StitchDisk(dir, () => undefined);
  const errors: unknown[] = [];
  let beat = Promise.withResolvers<void>();
  const onError = (error: unknown) => errors.push(error);
  const journal = new TaskJournal({ disk, nextBeat: () => beat.promise, onError, ...more });
  t.after(async () => {
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return {
    dir,
    disk,
    journal,
    errors,
    path: join(dir, "stitches.jsonl"),
    beat: () => {
      beat.resolve();
      beat = Promise.withResolvers();
    },
    /** Ends the worker: there is no further heartbeat. */
    end: () => {
      beat.promise.catch(() => undefined);
      beat.reject(new Error("the worker has ended"));
    },
    /** The tasks that the worker's next life finds. */
    found: () => new StitchDisk(dir, assert.ifError).load().tasks.map(({ job, task: { id } }) => `${job}.${id}`),
  };
}

const startOf = (job: string): Dispatch => ({
  job,
  revision: 1,
  deadlineAtMs: 1000,
  task: { ...PING_TASK, steps: [{ action: "start", stitch: "n1:a", timeoutMs: 1000 }] },
});
const never = () => new Promise<never>(() => undefined);
const notAgain = () => Promise.reject(new Error("it was tried again"));
const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

test("a task is on disk, unchanged, when it is taken, and stays there until it has been answered", async (t) => {
  const { disk, journal, found } = journaling(t);
  const work = Promise.withResolvers<void>();
  await journal.take(startOf("j1"), () => work.promise, notAgain);
  await journal.take(startOf("j2"), never, notAgain);
  assert.deepEqual(found(), ["j1.t0", "j2.t0"]);
  assert.deepEqual(disk.load().tasks[0]?.task, startOf("j1").task);
  work.resolve();
  await settled();
  await disk.written();
  assert.deepEqual(found(), ["j2.t0"]);
});

test("a task's line is written with the records that its first steps save, its end with the next save", async (t) => {
  const { disk, journal, path } = journaling(t);
  disk.save(testStitch("before"));
  await disk.written();
  const writes = t.mock.method(disk, "written");
  const work = Promise.withResolvers<void>();
  const begin = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    disk.save(testStitch("a"));
    await disk.written();
    // What is on disk by now was written in one piece, for all that wait for it.
    assert.equal(linesOf(path), 3);
    await work.promise;
  };
  await journal.take(startOf("j1"), begin, notAgain);
  assert.equal(linesOf(path), 3);
  writes.mock.restore();
  work.resolve();
  await settled();
  assert.equal(linesOf(path), 3, "its end waits for what is saved next");
  disk.save(testStitch("b"));
  await disk.written();
  assert.equal(linesOf(path), 5);
});

test("at the limit of what may wait, a task keeps its place in the queue until it has ended", async (t) => {
  const { disk, journal, found } = journaling(t, { mostCharacters: 20_000 });
  const first = Promise.withResolvers<void>();
  const third = Promise.withResolvers<void>();
  await journal.take(startOf("j1"), () => first.promise, notAgain);
  await journal.take(startOf("j2"), never, notAgain);
  let isOver = false;
  const keeps = journal.take(startOf("j3"), () => third.promise, notAgain).then(() => (isOver = true));
  await settled();
  assert.deepEqual([isOver, found()], [false, ["j1.t0", "j2.t0"]]);
  third.resolve();
  await keeps;
  first.resolve();
  await settled();
  await journal.take(startOf("j4"), never, notAgain);
  await disk.written();
  assert.deepEqual(found(), ["j2.t0", "j4.t0"], "there is room again");
});

test("a task that is delivered again while it is under way is not carried out twice", async (t) => {
  const { journal } = journaling(t);
  let times = 0;
  const work = () => {
    times += 1;
    return never();
  };
  await journal.take(startOf("j1"), work, notAgain);
  await journal.take(startOf("j1"), work, notAgain);
  assert.equal(times, 1);
  journal.resume([startOf("j2")], work);
  await journal.take(startOf("j2"), work, notAgain);
  assert.equal(times, 2, "nor where a former life has left it");
});

test("if Redis fails, tries again after each heartbeat until the task is answered", async (t) => {
  const { disk, journal, errors, beat, found } = journaling(t);
  let tries = 0;
  const again = async () => {
    tries += 1;
    if (tries < 3) throw new Error("no Redis");
  };
  await journal.take(startOf("j1"), () => Promise.reject(new Error("no Redis")), again);
  for (let beats = 1; beats <= 3; beats++) {
    await settled();
    assert.equal(tries, beats - 1);
    beat();
  }
  await journal.idle();
  await disk.written();
  assert.deepEqual([tries, errors.length, found()], [3, 3, []]);
});

for (const how of ["leaves", "has ended"] as const)
  test(`leaves what is under way when the worker ${how} to its next life`, async (t) => {
    const { disk, journal, end, found } = journaling(t);
    const work = async () => {
      if (how === "leaves") throw new WorkerLeaves();
      throw new Error("no Redis");
    };
    await journal.take(startOf("j1"), work, notAgain);
    end();
    await journal.idle();
    await disk.close();
    assert.deepEqual(found(), ["j1.t0"]);
  });

test("if the disk takes nothing, the queue keeps a task until it has ended or was handed back", async (t) => {
  const { dir, journal } = journaling(t);
  // A folder is in the place where the journal is to be written anew.
  mkdirSync(join(dir, "stitches.jsonl.new"));
  const work = Promise.withResolvers<void>();
  let isTaken = false;
  const taken = journal.take(startOf("j1"), () => work.promise, notAgain).then(() => (isTaken = true));
  await settled();
  assert.equal(isTaken, false);
  work.resolve();
  await taken;
  await assert.rejects(
    journal.take(startOf("j2"), () => Promise.reject(new WorkerLeaves()), notAgain),
    {
      name: "WorkerLeaves",
    },
  );
});

test("the next life finds each of ten thousand tasks under way, and none when they are answered", async (t) => {
  const count = 10_000;
  const { disk, journal, found } = journaling(t);
  const work = Promise.withResolvers<void>();
  await Promise.all(
    Array.from({ length: count }, (_, index) => journal.take(startOf(`j${index}`), () => work.promise, notAgain)),
  );
  assert.equal(found().length, count);
  work.resolve();
  await journal.idle();
  await disk.written();
  assert.deepEqual(found(), []);
});

/** The lines of a file, except for the first, which names the format. */
const linesOf = (path: string): number => readFileSync(path, "utf8").trimEnd().split("\n").length - 1;
