import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { DataFolders } from "../../../workers/node/stitches/data-folders.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";

test("a folder with something in it keeps data, and so does a link in its place, wherever it leads", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const disk = new StitchDisk(dir, assert.ifError);
  for (const id of ["empty", "full"]) await disk.makeDataDir(id);
  writeFileSync(join(disk.dataDir("full"), "file"), "x");
  mkdirSync(join(dir, "elsewhere"));
  symlinkSync(join(dir, "elsewhere"), disk.dataDir("linked"));
  symlinkSync(disk.dataDir("itself"), disk.dataDir("itself"));
  const ids = ["empty", "full", "linked", "itself", "missing"];
  const folders = new DataFolders(disk);
  await folders.look(ids);
  assert.deepEqual(
    ids.filter((id) => folders.keeps(id)),
    ["full", "linked", "itself"],
  );
});
