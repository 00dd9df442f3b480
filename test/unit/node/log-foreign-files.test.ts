// What other programs and people do to the files of a log: they put files beside it, move it away, truncate it.
import assert from "node:assert/strict";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { LogPosition } from "../../../src/domain/stitch/log-line.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchLog } from "../../../workers/node/logs/stitch-log.ts";

const root = mkdtempSync(join(tmpdir(), "cs-log-foreign-"));
after(() => rmSync(root, { recursive: true, force: true }));

const SMALL = { fileBytes: 300, files: 3 };
let made = 0;
const newPath = () => {
  const path = join(root, `${++made}`, "logs", "b.log");
  mkdirSync(join(path, ".."), { recursive: true });
  return path;
};
const unexpected = (error: unknown) => assert.fail(String(error));
const open = (path: string, onError: (error: unknown) => void = unexpected) => new StitchLog(path, onError, SMALL);
const tailOf = async (log: StitchLog) => (await log.tail(1000)).lines.map(({ line }) => line);

async function readOn(log: StitchLog, from: LogPosition) {
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

const write = async (log: StitchLog, ...lines: string[]) => {
  for (const line of lines) void log.write("stdout", line, 0);
  await log.positionOfLast(0);
};
/** Enough lines for several files. */
const many = (what: string) => Array.from({ length: 20 }, (_, n) => `${what} ${n}`);

const FOREIGN: Record<string, (path: string) => void> = {
  "a copy with a date": (path) => copyFileSync(path, `${path}.20261129`),
  "a copy with a huge number": (path) => copyFileSync(path, `${path}.9007199254740991`),
  "a copy with the next number but one": (path) => copyFileSync(path, `${path}.5`),
  "a number below zero, and one with leading zeros": (path) => {
    for (const end of ["-1", "-0", "007", "0", "1e6", "0x10", " 8", "7.gz"]) writeFileSync(`${path}.${end}`, "kept");
  },
  "a folder with a number": (path) => {
    mkdirSync(`${path}.12`);
    writeFileSync(join(`${path}.12`, "inside"), "kept");
  },
  "a link with a number": (path) => symlinkSync("/etc/hostname", `${path}.13`),
  "thousands of files": (path) => {
    for (let n = 0; n < 3000; n++) writeFileSync(`${path}.${20_000_000 + n}`, "kept");
  },
};

for (const [what, put] of Object.entries(FOREIGN))
  test(`${what} beside a log does not count, and is not read or deleted`, { timeout: 30_000 }, async () => {
    const path = newPath();
    const first = open(path);
    await write(first, ...many("before"));
    first.close();
    await first.positionOfLast(0);
    const [before, position] = [await tailOf(first), await first.positionOfLast(2)];
    put(path);
    const names = new Map(foreignIn(path));
    assert.ok(names.size > 0);

    const log = open(path);
    assert.deepEqual(await tailOf(log), before);
    const { lines, lost } = await readOn(log, position);
    assert.deepEqual([lines, lost], [["before 18", "before 19"], false]);
    await write(log, ...many("after"));
    assert.equal((await tailOf(log)).at(-1), "after 19");
    assert.ok((await tailOf(log)).every((line) => /^(before|after) \d+$/.test(line)));
    assert.deepEqual(new Map(foreignIn(path)), names, "all of it is still there");
    const own = [path, ...Array.from({ length: 40 }, (_, n) => `${path}.${n}`)].filter((one) => existsSync(one));
    assert.ok(own.filter((one) => !names.has(one)).length <= SMALL.files);
    log.close();

    const disk = new StitchDisk(join(path, "../.."), assert.ifError);
    await disk.forget("b", 0);
    assert.deepEqual(new Map(foreignIn(path)), names, "nor does the end of the stitch take it along");
    assert.ok(!existsSync(path));
  });

/** The foreign files beside a log, each with a number that shows whether it was touched. */
function* foreignIn(path: string): Generator<[string, number]> {
  for (const end of [
    "20261129",
    "9007199254740991",
    "5",
    "-1",
    "-0",
    "007",
    "0",
    "1e6",
    "0x10",
    " 8",
    "7.gz",
    "12",
    "13",
  ])
    if (lstatSync(`${path}.${end}`, { throwIfNoEntry: false }) !== undefined && !isMarked(`${path}.${end}`))
      yield [`${path}.${end}`, lstatSync(`${path}.${end}`).ino];
  for (let n = 0; n < 3000; n++) if (existsSync(`${path}.${20_000_000 + n}`)) yield [`${path}.${20_000_000 + n}`, n];
}

/** The log itself may use these numbers. */
const isMarked = (path: string): boolean => {
  const number = path.slice(path.lastIndexOf(".") + 1);
  return lstatSync(path).isFile() && readFileSync(path, "utf8").endsWith(`{"file":${number}}\n`);
};

test("passes over a foreign file in the place where the next file is to be put aside", async () => {
  const path = newPath();
  const log = open(path);
  await write(log, "one", "two");
  const position = await log.positionOfLast(1);
  mkdirSync(`${path}.1`);
  writeFileSync(`${path}.2`, "precious");
  symlinkSync("/nowhere", `${path}.3`);
  await write(log, "three", "four");
  const { lines, lost } = await readOn(log, position);
  assert.deepEqual([lines, lost], [["two", "three", "four"], false], "a follower goes on in it");
  await write(log, ...many("more"));
  assert.equal((await tailOf(log)).at(-1), "more 19");
  assert.equal(readFileSync(`${path}.2`, "utf8"), "precious");
  assert.ok(lstatSync(`${path}.1`).isDirectory() && lstatSync(`${path}.3`).isSymbolicLink());
  const kept = await tailOf(log);
  log.close();
  assert.deepEqual(await tailOf(open(path)), kept, "the next life finds the same");
});

test("among removed stitches, deletes only folders that were put there", async () => {
  const dir = join(root, "removed-names");
  const disk = new StitchDisk(dir, assert.ifError);
  const nowMs = Date.UTC(2026, 10, 30);
  const old = await disk.putAside("b", nowMs - 1000);
  await disk.putAside("b", nowMs + 1000);
  const at = (name: string) => join(dir, "removed", name);
  const foreign = ["b.20261129", "backup.1", "b.", "b.-5", "b.1e3", "b.0x5", `b.0${nowMs - 1000}`, "..5", "B.1"];
  for (const name of foreign) mkdirSync(at(name));
  writeFileSync(at(`c.${nowMs - 1000}`), "a file");
  symlinkSync("/etc", at(`d.${nowMs - 1000}`));
  await disk.forgetAside(nowMs);
  assert.ok(!existsSync(join(old, "..")));
  for (const name of [...foreign, `b.${nowMs + 1000}`, `c.${nowMs - 1000}`, `d.${nowMs - 1000}`])
    assert.ok(lstatSync(at(name), { throwIfNoEntry: false }) !== undefined, name);
});

const TAKEN_AWAY =
  "its log file was moved away, deleted, replaced or cut short by another program; the log goes on here";

const BEFALLS: Record<string, { act: (path: string) => void; still?: readonly string[] }> = {
  "is moved away": { act: (path) => renameSync(path, `${path}.1`) },
  "is moved away and made anew, as by logrotate": {
    act: (path) => {
      renameSync(path, `${path}.1`);
      writeFileSync(path, "");
    },
  },
  "is deleted": { act: (path) => rmSync(path) },
  "is replaced by another file": {
    act: (path) => {
      writeFileSync(`${path}.other`, "no line of a log");
      renameSync(`${path}.other`, path);
    },
  },
  "is moved away with its folder": {
    act: (path) => renameSync(join(path, ".."), join(path, "../../away")),
  },
  "is truncated to zero bytes, as logrotate does with copytruncate": { act: (path) => truncateSync(path) },
  "is cut short": { act: (path) => truncateSync(path, 100), still: ["one"] },
};

for (const [what, { act, still = [] }] of Object.entries(BEFALLS))
  for (const isClosed of [false, true])
    test(`a log file that ${what} is noticed with the next line${isClosed ? ", also while no file is open" : ""}`, async () => {
      const path = newPath();
      const log = open(path);
      await write(log, "one", "two");
      if (isClosed) log.close();
      await log.positionOfLast(0);
      const atEnd = await readOn(log, { file: 1, offset: 0 });
      const behind = await log.positionOfLast(1);
      act(path);
      assert.deepEqual(await tailOf(log), still, "what is shown until then");
      await write(log, "three");
      await write(log, "four");
      assert.deepEqual(await tailOf(log), [...still, TAKEN_AWAY, "three", "four"]);
      assert.deepEqual(await readOn(log, atEnd.next).then(({ lines, lost }) => ({ lines, lost })), {
        lines: [TAKEN_AWAY, "three", "four"],
        lost: false,
      });
      const { lines, lost } = await readOn(log, behind);
      assert.deepEqual([lines, lost], [[TAKEN_AWAY, "three", "four"], true], "a follower that was behind is told");
      await write(log, ...many("more"));
      assert.equal((await tailOf(log)).at(-1), "more 19");
      log.close();
    });

test("a link in place of a log file costs lines, but nothing is written through it; without it, the log goes on", async () => {
  const path = newPath();
  const errors: unknown[] = [];
  const log = open(path, (error) => errors.push(error));
  await write(log, "one");
  const foreign = join(path, "../foreign");
  writeFileSync(foreign, "precious");
  rmSync(path);
  symlinkSync(foreign, path);
  void log.write("stdout", "two", 0);
  void log.write("stdout", "three", 0);
  await assert.rejects(log.tail(1), /ELOOP/);
  assert.equal(errors.length, 1);
  rmSync(path);
  await write(log, "four");
  assert.deepEqual(await tailOf(log), [TAKEN_AWAY, "2 lines were lost here: the disk took nothing", "four"]);
  assert.equal(readFileSync(foreign, "utf8"), "precious");
  log.close();
});

test("what another program appends to a log file does not move a position", async () => {
  const path = newPath();
  const log = open(path);
  await write(log, "one");
  appendFileSync(path, "a line of another program, without an end");
  await write(log, "two");
  const position = await log.positionOfLast(1);
  assert.deepEqual((await readOn(log, position)).lines, ["two"]);
  assert.deepEqual(await tailOf(log), ["one", "two"]);
  log.close();
});
