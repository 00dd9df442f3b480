import assert from "node:assert/strict";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stitchRecord, type StitchRecord } from "../../../src/domain/stitch.ts";
import { StitchDisk } from "../../../workers/node/stitch-disk.ts";

const record = (restarts: number): StitchRecord =>
  stitchRecord.parse({
    id: "a",
    group: "a.b.1",
    spec: { adaptor: "process", command: ["x"] },
    desired: "running",
    state: "running",
    health: "green",
    revision: "1.0",
    outcome: null,
    restarts,
    pid: null,
    startedAtMs: null,
    lastExit: null,
    observedAtMs: 0,
  });

function folder(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "stitches", "a.json");
  /** What the next life of the worker finds. */
  const found = () => new StitchDisk(dir).load().stitches.map(({ restarts }) => restarts);
  return { disk: new StitchDisk(dir), path, found };
}

test("the newest record counts, however often it was saved, and its file stays small", (t) => {
  const { disk, path, found } = folder(t);
  disk.save(record(0));
  const first = statSync(path);
  disk.save(record(1));
  assert.equal(statSync(path).ino, first.ino, "the second is appended");
  for (let n = 2; n <= 1000; n++) {
    disk.save(record(n));
    if (n % 100 === 0) assert.deepEqual(found(), [n]);
    assert.ok(statSync(path).size <= 60 * first.size, `${statSync(path).size} bytes after ${n}`);
  }
  disk.saveRemoved({ id: "a", group: "a.b.1", revision: "2.0", outcome: null, removedAtMs: 0, movedTo: null });
  assert.deepEqual(found(), []);
  disk.save(record(7));
  assert.deepEqual(found(), [7]);
  disk.forget("a");
  assert.deepEqual(found(), []);
  disk.save(record(8));
  assert.deepEqual(found(), [8]);
});

test("of a record that a crash has cut off, nothing counts but what was there before", (t) => {
  const { disk, path, found } = folder(t);
  disk.save(record(0));
  disk.save(record(1));
  const whole = readFileSync(path, "utf8");
  disk.save(record(2));
  const line = readFileSync(path, "utf8").slice(whole.length);
  for (let length = 0; length < line.length; length++) {
    writeFileSync(path, whole + line.slice(0, length));
    assert.deepEqual(found(), [1], `after ${length} bytes`);
  }
  writeFileSync(path, whole + line.slice(0, -10));
  const dir = join(path, "../..");
  const next = new StitchDisk(dir);
  next.load();
  next.save(record(3));
  next.save(record(4));
  assert.deepEqual(found(), [4], "what comes next does not stand behind the piece");
});

test("nothing is appended behind what could not be written", (t) => {
  const { disk, path, found } = folder(t);
  disk.save(record(0));
  rmSync(path);
  mkdirSync(path);
  assert.throws(() => disk.save(record(1)), { code: "EISDIR" });
  rmdirSync(path);
  // As a full disk leaves it.
  writeFileSync(path, `${JSON.stringify({ kind: "stitch", record: record(0) })}\n{"kind":`);
  disk.save(record(2));
  assert.deepEqual(found(), [2]);
});

test("a record as it was written before there were lines is read; one that is none is refused, and named", (t) => {
  const { path, found } = folder(t);
  writeFileSync(path, JSON.stringify({ kind: "stitch", record: record(3) }));
  assert.deepEqual(found(), [3]);
  appendFileSync(path, "\nnothing\n");
  assert.throws(found, (error: Error) => error.message.startsWith(`${path} cannot be read`));
});
