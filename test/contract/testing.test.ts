// `crossstitch/testing` as an author of a Master uses it: from a folder of their own.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { saveDocsContractTest, saveDocsMaster } from "../support/docs-master.ts";

const root = join(import.meta.dirname, "../..");
const LIMIT_MS = 120_000;
const folder = mkdtempSync(join(tmpdir(), "cs-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the author's test as docs/masters.md says, with this window of the example's Master. */
async function runWith(window: string): Promise<{ readonly code: number; readonly output: string }> {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const options = { cwd: folder, env: { ...env, WINDOW: window }, timeout: LIMIT_MS };
  return promisify(execFile)(process.execPath, ["--test", "contract.test.js"], options).then(
    ({ stdout }) => ({ code: 0, output: stdout }),
    (error: { code: number; stdout: string }) => ({ code: error.code, output: error.stdout }),
  );
}

test("an author holds their Master to the contract, and is told where it breaks it", async () => {
  saveDocsMaster(folder, "my-master.js");
  saveDocsContractTest(folder);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  // What `npm install ../crossstitch` does.
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(root, join(folder, "node_modules/crossstitch"));
  const kept = await runWith("0-24");
  assert.equal(kept.code, 0, kept.output);
  assert.match(kept.output, /the same command with the same key is one job/);
  const broken = await runWith("24-24");
  assert.equal(broken.code, 1);
  assert.match(broken.output, /Commands are taken from 24:00 to 24:00 UTC/);
});
