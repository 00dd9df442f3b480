import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { type FileHandle, open as openFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import type { LogPosition } from "../../../src/domain/stitch/log-line.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchLog } from "../../../workers/node/logs/stitch-log.ts";

const root = mkdtempSync(join(tmpdir(), "cs-log-"));
after(() => rmSync(root, { recursive: true, force: true }));

const SMALL = { fileBytes: 300, files: 3 };
let made = 0;
const newPath = () => join(root, `${++made}`, "logs", "a.log");
const unexpected = (error: unknown) => assert.fail(String(error));
const open = (path: string, limits = SMALL) => new StitchLog(path, unexpected, limits);
const names = (path: string) => readdirSync(join(path, "..")).sort();

const tailOf = async (log: StitchLog, count: number) => (await log.tail(count)).lines.map(({ line }) => line);

/** Reads on until there is nothing more. */
async function readAll(log: StitchLog, from: LogPosition) {
  const lines: string[] = [];
  let lost = false;
  for (let position = from; ; ) {
    const read = await log.read(position);
    lines.push(...read.lines.map(({ line }) => line.line));
    lost ||= read.lost;
    position = read.next;
    if (read.lines.length === 0) return { lines, lost, next: position };
  }
}

/** What must be kept: entries fill a file until the next one would not fit, and only the last files exist. */
function kept(lines: readonly string[], { fileBytes, files }: typeof SMALL): string[] {
  const all: string[][] = [[]];
  let size = 0;
  for (const line of lines) {
    const bytes = Buffer.byteLength(JSON.stringify({ at: new Date(0).toISOString(), source: "stdout", line })) + 1;
    if (size > 0 && size + bytes > fileBytes) {
      all.push([]);
      size = 0;
    }
    all.at(-1)?.push(line);
    size += bytes;
  }
  return all.slice(-files).flat();
}

test("lines are kept with their time and source, oldest first", async () => {
  const log = open(newPath());
  void log.write("stdout", "one", 1000);
  void log.write("stderr", "two\twith \u0001 é 🧵", 2000);
  void log.write("system", "", 3000);
  assert.deepEqual((await log.tail(10)).lines, [
    { at: "1970-01-01T00:00:01.000Z", source: "stdout", line: "one" },
    { at: "1970-01-01T00:00:02.000Z", source: "stderr", line: "two\twith \u0001 é 🧵" },
    { at: "1970-01-01T00:00:03.000Z", source: "system", line: "" },
  ]);
  log.close();
});

test("a log that was never written to is empty", async () => {
  const log = open(newPath());
  assert.deepEqual(await log.tail(5), { lines: [], cut: false });
  const start = await log.positionOfLast(5);
  assert.deepEqual(await readAll(log, start), { lines: [], lost: false, next: start });
  void log.write("stdout", "first", 0);
  assert.deepEqual((await readAll(log, start)).lines, ["first"]);
  log.close();
});

test("property: whatever is written, in whatever portions, tail and read give exactly what is kept", async () => {
  const line = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: "grapheme", maxLength: 400 }));
  const act = fc.oneof(
    { weight: 8, arbitrary: line.map((text) => ({ write: text })) },
    { weight: 1, arbitrary: fc.constant({ settle: true as const }) },
    { weight: 1, arbitrary: fc.constant({ reopen: true as const }) },
  );
  const limits = fc.record({ fileBytes: fc.integer({ min: 60, max: 500 }), files: fc.integer({ min: 1, max: 4 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 60 }), limits, fc.nat(40), async (acts, limit, count) => {
      const path = newPath();
      let log = open(path, limit);
      const written: string[] = [];
      for (const one of acts) {
        if ("write" in one) {
          written.push(one.write);
          void log.write("stdout", one.write, 0);
        } else {
          await log.tail(1);
          if ("reopen" in one) {
            log.close();
            log = open(path, limit);
          }
        }
      }
      const expected = kept(written, limit);
      const last = count === 0 ? [] : expected.slice(-count);
      assert.deepEqual(await tailOf(log, count), last);
      assert.deepEqual(await tailOf(log, 1000), expected);
      assert.deepEqual((await readAll(log, await log.positionOfLast(count))).lines, last);
      assert.ok(!existsSync(join(path, "..")) || names(path).length <= limit.files);
      log.close();
    }),
    { numRuns: 150 },
  );
});

test("property: reading on over writes and rotations gives every line once, or says that some are lost", async () => {
  const line = fc.string({ maxLength: 80 });
  const rounds = fc.array(fc.array(line, { maxLength: 12 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(rounds, async (portions) => {
      const log = open(newPath());
      const written: string[] = [];
      const got: string[] = [];
      let position = await log.positionOfLast(0);
      let lost = false;
      for (const portion of portions) {
        for (const text of portion) {
          written.push(text);
          void log.write("stdout", text, 0);
        }
        // One read per round: this reader may fall behind.
        const read = await log.read(position);
        if (read.lost) {
          lost = true;
          got.length = 0;
        }
        got.push(...read.lines.map((one) => one.line.line));
        position = read.next;
      }
      const rest = await readAll(log, position);
      if (rest.lost) {
        lost = true;
        got.length = 0;
      }
      got.push(...rest.lines);
      if (lost) assert.deepEqual(got, written.slice(written.length - got.length));
      else assert.deepEqual(got, written);
      log.close();
    }),
    { numRuns: 150 },
  );
});

test("a position survives rotation and a worker restart; what was rotated away is reported as lost", async () => {
  const path = newPath();
  const log = open(path);
  for (let n = 0; n < 3; n++) void log.write("stdout", `early ${n}`, 0);
  const position = await log.positionOfLast(1);
  for (let n = 0; n < 4; n++) void log.write("stdout", `middle ${n}`, 0);
  await log.tail(1);
  log.close();

  const next = open(path);
  void next.write("stdout", "late", 0);
  const read = await readAll(next, position);
  assert.deepEqual(read.lines, ["early 2", "middle 0", "middle 1", "middle 2", "middle 3", "late"]);
  assert.equal(read.lost, false);
  assert.deepEqual(names(path), ["a.log", "a.log.1"], "it was put aside meanwhile");

  for (let n = 0; n < 40; n++) void next.write("stdout", `flood ${n}`, 0);
  const after = await readAll(next, position);
  assert.equal(after.lost, true);
  assert.deepEqual(after.lines, await tailOf(next, 1000));
  assert.equal(after.lines.at(-1), "flood 39");
  next.close();
});

test("reading during writes and rotations gives nothing twice, misses nothing and keeps the order", async () => {
  // A new file after every few lines, so that readers meet rotations at every step.
  const log = open(newPath(), { fileBytes: 300, files: 10_000 });
  const total = 2000;
  const expected = Array.from({ length: total }, (_, n) => `${n}`);
  const write = async () => {
    for (const line of expected) {
      void log.write("stdout", line, 0);
      // Pauses in which readers catch up, and bursts in which they do not.
      for (let turns = Number(line) % 11; turns > 5; turns--) await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const follow = async () => {
    const got: string[] = [];
    for (let position: LogPosition = { file: 1, offset: 0 }; got.length < total; ) {
      const read = await log.read(position);
      assert.equal(read.lost, false);
      got.push(...read.lines.map(({ line }) => line.line));
      position = read.next;
    }
    assert.deepEqual(got, expected);
  };
  const tail = async () => {
    for (let last = -1; last < total - 1; ) {
      const numbers = (await tailOf(log, 20)).map(Number);
      const newest = numbers.at(-1) ?? -1;
      assert.deepEqual(
        numbers,
        Array.from({ length: Math.min(20, newest + 1) }, (_, n) => newest + 1 - Math.min(20, newest + 1) + n),
      );
      assert.ok(newest >= last);
      last = newest;
    }
  };
  await Promise.all([write(), follow(), follow(), follow(), tail(), tail()]);
  log.close();
});

test("a watcher is told when more has been written, until it ends the watch", async () => {
  const log = open(newPath());
  let told = 0;
  const end = log.watch(() => told++);
  void log.write("stdout", "x", 0);
  await tailOf(log, 1);
  assert.equal(told, 1);
  end();
  void log.write("stdout", "y", 0);
  assert.deepEqual(await tailOf(log, 2), ["x", "y"]);
  assert.equal(told, 1);
  log.close();
});

test("a tail in bytes is cut at the front, and says so", async () => {
  const log = open(newPath(), { fileBytes: 100_000, files: 2 });
  for (let n = 0; n < 100; n++) void log.write("stdout", `${n}`.padStart(3, "0"), 0);
  const { lines, cut } = await log.tail(100, 1000);
  assert.equal(cut, true);
  assert.ok(lines.length > 5 && lines.length < 20);
  assert.equal(lines.at(-1)?.line, "099");
  assert.equal((await log.tail(5, 1000)).cut, false);
  log.close();
});

test("lines longer than a block, and the longest as JSON, are read whole; longer ones are cut, which is said", async () => {
  const log = open(newPath(), { fileBytes: 4_000_000, files: 2 });
  const worst = "\u0001".repeat(64 * 1024);
  const long = "é".repeat(60_000);
  for (const line of ["before", worst, long, "x".repeat(70_000), "after"]) void log.write("stdout", line, 0);
  const says = "the line before was cut: 4464 more characters are not kept";
  const expected = ["before", worst, long, "x".repeat(65_536), says, "after"];
  assert.ok((await tailOf(log, 6)).every((line, index) => line === expected[index]));
  const read = await readAll(log, { file: 1, offset: 0 });
  assert.ok(read.lines.length === 6 && read.lines.every((line, index) => line === expected[index]));
  log.close();
});

test("skips an entry that a crash has cut off, but not what is written after it", async () => {
  const path = newPath();
  const first = open(path, { fileBytes: 10_000, files: 2 });
  void first.write("stdout", "whole", 0);
  await first.tail(1);
  first.close();
  appendFileSync(path, '{"at":"1970-01-01T00:00:00.000Z","source":"stdout","li');
  const log = open(path, { fileBytes: 10_000, files: 2 });
  assert.deepEqual(await tailOf(log, 5), ["whole"]);
  const start = await log.positionOfLast(1);
  assert.deepEqual((await readAll(log, start)).lines, ["whole"]);
  void log.write("stdout", "next", 0);
  assert.deepEqual(await tailOf(log, 5), ["whole", "next"]);
  assert.deepEqual((await readAll(log, start)).lines, ["whole", "next"]);
  appendFileSync(path, `\n\nnonsense ${"x".repeat(1_000_000)}\n`);
  const reopened = open(path, { fileBytes: 4_000_000, files: 2 });
  void reopened.write("stdout", "last", 0);
  assert.deepEqual(await tailOf(reopened, 5), ["whole", "next", "last"]);
  assert.deepEqual((await readAll(reopened, start)).lines, ["whole", "next", "last"]);
  log.close();
  reopened.close();
});

test("a disk that takes nothing costs lines, is reported once, and the log tells how many when it works again", async () => {
  const path = newPath();
  const dir = join(path, "..");
  mkdirSync(join(dir, ".."), { recursive: true });
  writeFileSync(dir, "in the way");
  const errors: unknown[] = [];
  const log = new StitchLog(path, (error) => errors.push(error), SMALL);
  const full = "x".repeat(60_000);
  const waits: Promise<void>[] = [];
  for (let n = 0; n < 10; n++) waits.push(...[log.write("stdout", full, 0)].filter((wait) => wait !== null));
  assert.ok(waits.length > 0);
  await Promise.all(waits);
  void log.write("stdout", "lost too", 0);
  await log.tail(1).then(
    () => assert.fail("the folder cannot be read"),
    () => undefined,
  );
  assert.equal(errors.length, 1);
  rmSync(dir);
  void log.write("stdout", "well", 5000);
  assert.deepEqual((await log.tail(10)).lines, [
    { at: "1970-01-01T00:00:05.000Z", source: "system", line: "11 lines were lost here: the disk took nothing" },
    { at: "1970-01-01T00:00:05.000Z", source: "stdout", line: "well" },
  ]);
  log.close();
});

test("a disk that fills up under an open file costs only what it had no room for", async (t) => {
  const path = newPath();
  mkdirSync(join(path, ".."), { recursive: true });
  const errors: unknown[] = [];
  const log = new StitchLog(path, (error) => errors.push(error), SMALL);
  const probe = await openFile(import.meta.filename);
  await probe.close();
  const full = t.mock.method(Object.getPrototypeOf(probe) as FileHandle, "appendFile", () =>
    Promise.reject(new Error("ENOSPC")),
  );
  void log.write("stdout", "no room", 0);
  await tailOf(log, 1);
  full.mock.restore();
  void log.write("stdout", "room", 0);
  assert.deepEqual(await tailOf(log, 5), ["1 line was lost here: the disk took nothing", "room"]);
  assert.match(String(errors), /ENOSPC/);
  log.close();
});

test("a stitch that floods its log must wait; with the default limits, at most 20 MiB are kept", async () => {
  const path = newPath();
  const log = new StitchLog(path, unexpected);
  const line = "y".repeat(60_000);
  let waited = 0;
  for (let n = 0; n < 600; n++) {
    const wait = log.write("stdout", line, 0);
    if (wait === null) continue;
    waited += 1;
    await wait;
  }
  await log.tail(1);
  assert.ok(waited > 50, `${waited}`);
  const sizes = names(path).map((name) => statSync(join(path, "..", name)).size);
  assert.equal(sizes.length, 5);
  assert.ok(sizes.every((size) => size <= 4 * 1024 * 1024));
  log.close();
});

test("moving a log takes all its files along; reading and writing go on", async () => {
  const [path, next] = [newPath(), newPath()];
  const log = open(path);
  const lines = Array.from({ length: 9 }, (_, n) => `line ${n}`);
  for (const line of lines) void log.write("stdout", line, 0);
  const whole = kept(lines, SMALL);
  assert.deepEqual(await tailOf(log, 100), whole);
  const position = await log.positionOfLast(2);
  const [, during] = await Promise.all([log.moveTo(next), readAll(log, position)]);
  assert.deepEqual([during.lines, during.lost], [whole.slice(-2), false]);
  assert.deepEqual([names(path), names(next).length], [[], 3]);
  const other = open(path);
  void other.write("stdout", "of another", 0);
  void log.write("stdout", "last", 0);
  assert.deepEqual((await readAll(log, position)).lines.slice(-1), ["last"]);
  assert.deepEqual(await tailOf(other, 100), ["of another"]);
  log.close();
  other.close();
});

test("deletes all log files of a removed stitch, and those of no other", async () => {
  const dir = join(root, "disk");
  const disk = new StitchDisk(dir, assert.ifError);
  await disk.forget("a", 0);
  for (const id of ["a", "a-b"]) {
    const log = open(disk.logPath(id));
    for (let n = 0; n < 30; n++) void log.write("stdout", `line ${n}`, 0);
    await log.tail(1);
    log.close();
  }
  assert.equal(names(disk.logPath("a")).length, 6);
  await disk.forget("a", 0);
  assert.ok(names(disk.logPath("a")).every((name) => name.startsWith("a-b.log")));
  await disk.close();
});
