// What a power cut, or a full disk, does to the files of a state folder.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Ownership } from "../../../workers/node/membership/ownership.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { testStitch } from "../../support/test-stitch.ts";

function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "cs-power-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const take = async (dir: string) => {
  const warnings: string[] = [];
  const ownership = await Ownership.take(dir, dir, undefined, (message) => warnings.push(message));
  return { ownership, warnings };
};

for (const [what, bytes] of Object.entries({
  "no bytes": "",
  "NUL bytes": "\0".repeat(200),
  "half of its JSON": '{"session":"s","formerSessi',
  "another JSON": '{"session":7}',
}))
  test(`an owner.json of ${what} does not prevent a start: it is written anew, with a warning`, async (t) => {
    const dir = folder(t);
    writeFileSync(join(dir, "owner.json"), bytes, { mode: 0o600 });
    const { ownership, warnings } = await take(dir);
    assert.equal(ownership.former, null);
    assert.match(warnings.join("|"), /^\S+owner\.json cannot be read \(.*\) and is written anew: .*; end what else/s);
    await ownership.record({ session: "t", incarnation: 3, pid: 1, watchdogPid: null });
    await ownership.release();
    const next = await take(dir);
    assert.deepEqual([next.ownership.former?.incarnation, next.warnings], [3, []]);
    await next.ownership.release();
  });

test("an owner.json that cannot be written is named, with the next step", async (t) => {
  const dir = folder(t);
  const { ownership } = await take(dir);
  mkdirSync(join(dir, "owner.json"));
  await assert.rejects(
    () => ownership.record({ session: "t", incarnation: 3, pid: 1, watchdogPid: null }),
    /owner\.json cannot be written \(.*\); see to its disk, or set another STITCH_STATE_DIR/,
  );
  await ownership.release();
});

async function journal(t: TestContext): Promise<{ dir: string; path: string; whole: Buffer }> {
  const dir = folder(t);
  const disk = new StitchDisk(dir, assert.ifError);
  for (const id of ["a", "b"]) disk.save(testStitch(id));
  await disk.written();
  await disk.close();
  const path = join(dir, "stitches.jsonl");
  return { dir, path, whole: readFileSync(path) };
}

for (const [what, rest] of Object.entries({
  "NUL bytes": Buffer.alloc(5000),
  "half a line": Buffer.from('{"kind":"stitch","record":{"id":"c"'),
  "half a line and NUL bytes": Buffer.concat([Buffer.from('{"kind":"stitch","rec'), Buffer.alloc(100)]),
}))
  test(`a journal that ends with ${what} keeps the lines before that`, async (t) => {
    const { dir, path, whole } = await journal(t);
    writeFileSync(path, Buffer.concat([whole, rest]));
    const disk = new StitchDisk(dir, assert.ifError);
    assert.deepEqual(
      disk.load().stitches.map(({ id }) => id),
      ["a", "b"],
    );
    disk.save(testStitch("c"));
    await disk.written();
    await disk.close();
    assert.equal(new StitchDisk(dir, assert.ifError).load().stitches.length, 3);
    assert.ok(!readFileSync(path).includes(0));
  });

for (const [what, change] of Object.entries({
  "that is empty": () => Buffer.alloc(0),
  "of NUL bytes": (whole: Buffer) => Buffer.alloc(whole.length),
  "cut off in its first line": (whole: Buffer) => whole.subarray(0, 10),
}))
  test(`refuses a journal ${what} and names it, rather than take it for one without stitches`, async (t) => {
    const { dir, path, whole } = await journal(t);
    writeFileSync(path, change(whole));
    assert.throws(
      () => new StitchDisk(dir, assert.ifError).load(),
      /stitches\.jsonl is empty, or cut off in its first line; put a copy of it there, or delete it: the node then takes/,
    );
  });
