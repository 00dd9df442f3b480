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
import fc from "fast-check";
import { removedRecord, stitchRecord, type StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { FORMAT } from "../../../src/redis/format.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { testStitch } from "../../support/test-stitch.ts";

const record = (restarts: number, id = "a"): StitchRecord => testStitch(id, { restarts });
const tombstone = (id: string) =>
  removedRecord.parse({ id, group: "a.b.1", revision: "2.0", born: "1.0", outcome: null, removedAtMs: 0 });

function folder(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const disk = new StitchDisk(dir, () => undefined);
  t.after(async () => {
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const path = join(dir, "stitches.jsonl");
  const next = () => {
    const again = new StitchDisk(dir, assert.ifError);
    return { disk: again, ...again.load() };
  };
  /** What the worker's next life finds. */
  const found = () => next().stitches.map(({ id, restarts }) => `${id} ${restarts}`);
  return { dir, disk, path, next, found };
}

test("the newest record of each stitch counts, however often it was saved, and the journal stays small", async (t) => {
  const { disk, path, next, found } = folder(t);
  disk.save(record(0));
  disk.save(record(0, "b"));
  await disk.written();
  const first = statSync(path);
  disk.save(record(1));
  await disk.written();
  assert.equal(statSync(path).ino, first.ino, "the second is appended");
  for (let n = 2; n <= 5000; n++) {
    disk.save(record(n));
    await disk.written();
    if (n % 500 === 0) assert.deepEqual(found(), [`a ${n}`, "b 0"]);
    assert.ok(statSync(path).size <= 1.1 * 1024 * 1024, `${statSync(path).size} bytes after ${n}`);
  }
  disk.saveRemoved(tombstone("a"));
  await disk.written();
  assert.deepEqual(found(), ["b 0"]);
  assert.deepEqual(next().removed, [tombstone("a")]);
  disk.save(record(7));
  await disk.written();
  assert.deepEqual(found(), ["a 7", "b 0"]);
  await disk.forget("a", 0);
  await disk.written();
  assert.deepEqual(found(), ["b 0"]);
});

test("keeps launches until they have ended, beside the records, also if the journal is written anew", async (t) => {
  const { disk, next, found } = folder(t);
  const launch = (pid: number, id = "a") => ({ id, pid, startedAt: 7, bootId: "boot", session: "s" });
  disk.save(record(0));
  for (const one of [launch(1), launch(2), launch(3, "b")]) disk.saveLaunch(one);
  disk.forgetLaunch(launch(1));
  await disk.written();
  assert.deepEqual(next().launches, [launch(2), launch(3, "b")]);
  await disk.forget("a", 0);
  for (let n = 1; n <= 5000; n++) {
    disk.save(record(n, "b"));
    await disk.written();
  }
  assert.deepEqual(next().launches, [launch(2), launch(3, "b")], "a stitch that is forgotten may have processes");
  for (const one of [launch(2), launch(3, "b"), launch(3, "b")]) disk.forgetLaunch(one);
  await disk.written();
  assert.deepEqual([next().launches, found()], [[], ["b 5000"]]);
});

test("writes what is saved in one turn of the event loop at once, with only the newest state of each stitch", async (t) => {
  const { disk, path } = folder(t);
  disk.save(record(0));
  await disk.written();
  for (let n = 1; n <= 100; n++) for (const id of ["a", "b"]) disk.save(record(n, id));
  assert.equal(readFileSync(path, "utf8").split("\n").length, 3);
  await Promise.all([disk.written(), disk.written()]);
  const [format = "", ...lines] = readFileSync(path, "utf8").trimEnd().split("\n");
  assert.deepEqual(JSON.parse(format), { kind: "format", format: FORMAT });
  assert.deepEqual(
    lines
      .map((line) => (JSON.parse(line) as { record: StitchRecord }).record)
      .map(({ id, restarts }) => [id, restarts]),
    [
      ["a", 0],
      ["a", 100],
      ["b", 100],
    ],
  );
  await disk.written();
  assert.equal(readFileSync(path, "utf8").trimEnd().split("\n").length, 4, "nothing is written twice");
});

test("a journal that a crash has cut off anywhere keeps what was there before, and goes on", async (t) => {
  const { disk, path, next, found } = folder(t);
  disk.save(record(0));
  disk.save(record(1, "b"));
  await disk.written();
  const whole = readFileSync(path, "utf8");
  disk.save(record(2));
  await disk.written();
  const line = readFileSync(path, "utf8").slice(whole.length);
  for (let length = 0; length < line.length - 1; length++) {
    writeFileSync(path, whole + line.slice(0, length));
    assert.deepEqual(found(), ["a 0", "b 1"], `after ${length} bytes`);
  }
  writeFileSync(path, whole + line.slice(0, -10));
  const after = next();
  after.disk.save(record(3));
  await after.disk.written();
  after.disk.save(record(4));
  await after.disk.written();
  assert.deepEqual(found(), ["a 4", "b 1"], "what comes next does not stand behind the piece");
  await after.disk.close();
});

test("finds what was written, after any saves, turns and lives", async (t) => {
  const act = fc.oneof(
    fc.record({ kind: fc.constantFrom("save", "remove", "forget"), id: fc.constantFrom("a", "b", "c") }),
    fc.record({ kind: fc.constantFrom("written", "next life"), id: fc.constant("") }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
      const dir = mkdtempSync(join(tmpdir(), "cs-"));
      t.after(() => rmSync(dir, { recursive: true, force: true }));
      let disk = new StitchDisk(dir, assert.ifError);
      const expected = new Map<string, string>();
      let number = 0;
      for (const { kind, id } of acts) {
        number += 1;
        if (kind === "save") {
          disk.save(record(number, id));
          expected.set(id, String(number));
        } else if (kind === "remove") {
          disk.saveRemoved(tombstone(id));
          expected.set(id, "removed");
        } else if (kind === "forget") {
          await disk.forget(id, 0);
          expected.delete(id);
        } else {
          if (kind === "written") await disk.written();
          else await disk.close();
          const next = new StitchDisk(dir, assert.ifError);
          const { stitches, removed } = next.load();
          assert.deepEqual(
            new Map([
              ...stitches.map((one) => [one.id, String(one.restarts)] as const),
              ...removed.map((one) => [one.id, "removed"] as const),
            ]),
            expected,
          );
          if (kind === "next life") disk = next;
        }
      }
      await disk.close();
    }),
    { numRuns: 50 },
  );
});

test("reports what could not be written, and writes it with the next save, not after a broken line", async (t) => {
  const { dir, disk, path, found } = folder(t);
  disk.save(record(0));
  await disk.written();
  await disk.close();
  const errors: unknown[] = [];
  const second = new StitchDisk(dir, (error) => errors.push(error));
  second.load();
  // The first write makes a new file, and finds a folder in its place.
  mkdirSync(`${path}.new`);
  second.save(record(1));
  await assert.rejects(second.written(), (error: Error) => error.message.startsWith(`${path} cannot be written`));
  await assert.rejects(second.written(), "it is tried again, and still not written");
  assert.equal(errors.length, 2);
  assert.deepEqual(found(), ["a 0"]);
  rmdirSync(`${path}.new`);
  second.save(record(5, "b"));
  await second.written();
  assert.deepEqual(found(), ["a 1", "b 5"]);
  await second.close();
});

test("a deleted journal, with or without its folder, is complete again at the next save", async (t) => {
  const { dir, disk, path, next, found } = folder(t);
  disk.save(record(0));
  disk.saveRemoved(tombstone("b"));
  await disk.written();
  for (const [index, gone] of [path, dir].entries()) {
    rmSync(gone, { recursive: true });
    disk.save(record(index, "c"));
    await disk.written();
    assert.deepEqual(found(), ["a 0", `c ${index}`]);
    assert.deepEqual(next().removed, [tombstone("b")]);
  }
});

test("goes on with a journal that cannot be written anew because there is no room", async (t) => {
  const { dir, path, found } = folder(t);
  const errors: unknown[] = [];
  const disk = new StitchDisk(dir, (error) => errors.push(error));
  disk.save(record(0));
  await disk.written();
  mkdirSync(`${path}.new`);
  for (let n = 1; n <= 5000; n++) {
    disk.save(record(n));
    await disk.written();
  }
  assert.ok(errors.length >= 1 && errors.length <= 3, `${errors.length} tries`);
  assert.deepEqual(found(), ["a 5000"]);
  rmdirSync(`${path}.new`);
  for (let n = 1; n <= 15_000; n++) {
    disk.save(record(n));
    await disk.written();
  }
  assert.ok(statSync(path).size <= 1.1 * 1024 * 1024, `${statSync(path).size} bytes`);
  await disk.close();
});

test("writes and reads a record of megabytes", async (t) => {
  const { disk, path, next } = folder(t);
  const env = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`V${n}`, "ü".repeat(8000)]));
  const large = stitchRecord.parse({ ...record(0), spec: { adaptor: "process", command: ["x"], env } });
  for (let n = 1; n <= 20; n++) {
    disk.save({ ...large, restarts: n });
    await disk.written();
  }
  assert.deepEqual(next().stitches, [{ ...large, restarts: 20 }]);
  assert.ok(statSync(path).size <= 8 * 1024 * 1024, `${statSync(path).size} bytes`);
});

test("writes nothing after close, because another worker may then own the journal", async (t) => {
  const { disk, found } = folder(t);
  disk.save(record(0));
  await Promise.all([disk.close(), disk.close()]);
  await disk.close();
  assert.deepEqual(found(), ["a 0"], "what was left is written");
  disk.save(record(1));
  await disk.written();
  assert.deepEqual(found(), ["a 0"]);
});

test("refuses a line that is no record, and names it", (t) => {
  const { path, found } = folder(t);
  const format = `${JSON.stringify({ kind: "format", format: FORMAT })}\n`;
  const line = `${JSON.stringify({ kind: "stitch", record: record(3) })}\n`;
  writeFileSync(path, format + line);
  assert.deepEqual(found(), ["a 3"]);
  appendFileSync(path, `nothing\n${line}`);
  assert.throws(found, (error: Error) => error.message.startsWith(`line 3 of ${path} cannot be read`));
  writeFileSync(path, format + line + line.replace('"restarts":3', '"restarts":4').trimEnd());
  assert.deepEqual(found(), ["a 4"], "an editor has left out the last line end");
});

test("refuses a journal of another format in one line, and leaves it as it is", (t) => {
  const { path, found } = folder(t);
  const line = `${JSON.stringify({ kind: "stitch", record: record(3) })}\n`;
  const formats = [
    { head: "", format: "1" },
    { head: `${JSON.stringify({ kind: "format", format: FORMAT + 1 })}\n`, format: String(FORMAT + 1) },
  ];
  for (const { head, format } of formats) {
    writeFileSync(path, head + line);
    assert.throws(found, (error: Error) => {
      assert.equal(error.name, "JournalFormatRefused");
      assert.ok(error.message.startsWith(`${path} is stored in format ${format}; this version`), error.message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
    assert.equal(readFileSync(path, "utf8"), head + line);
  }
});
