import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Ownership, StateFolderUnusable } from "../../../workers/node/ownership.ts";

const SAYS = /^the state folder \S+ cannot be used \(E[A-Z]+: .*\)\. .*STITCH_STATE_DIR/;

async function withFolder(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-ownership-"));
  try {
    await work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const assertUnusable = (dir: string) =>
  assert.rejects(Ownership.take(dir), (error) => {
    assert.ok(error instanceof StateFolderUnusable);
    assert.match(error.message, SAYS);
    assert.ok(error.message.includes(dir));
    return true;
  });

test("a state folder is made with all above it, and may be there already", () =>
  withFolder(async (dir) => {
    const deep = join(dir, "a", "b");
    for (let time = 0; time < 2; time++) (await Ownership.take(deep)).release();
  }));

test("a state folder below a file, or that is one, is refused with the setting", () =>
  withFolder(async (dir) => {
    const file = join(dir, "file");
    writeFileSync(file, "");
    await assertUnusable(file);
    await assertUnusable(join(file, "default", "n1"));
  }));

test(
  "a state folder where nobody can make one is refused at once",
  { skip: process.platform !== "linux" && "there is no /proc" },
  () => assertUnusable("/proc/crossstitch/default/n1"),
);

test(
  "a state folder that may not be written to is refused with the setting",
  { skip: process.getuid?.() === 0 && "root may write anywhere" },
  () =>
    withFolder(async (dir) => {
      const closed = join(dir, "closed");
      mkdirSync(closed);
      chmodSync(closed, 0o500);
      await assertUnusable(closed);
      await assertUnusable(join(closed, "default", "n1"));
    }),
);
