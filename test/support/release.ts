import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { shellEnv } from "./script.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const LIMIT_MS = 5 * 60_000;

/** This repository as it is on disk, in a folder of its own: a build replaces `dist`, and other tests build, too. */
export async function copyOfRepository(): Promise<string> {
  const copy = mkdtempSync(join(tmpdir(), "cs-copy-"));
  const files = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"];
  const { stdout } = await run("git", files, { cwd: root });
  const isThere = (file: string) => file !== "" && existsSync(join(root, file));
  for (const file of stdout.split("\0").filter(isThere)) cpSync(join(root, file), join(copy, file));
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  return copy;
}

/** Runs `npm run release` in a copy of this repository. */
export async function runRelease(copy: string): Promise<void> {
  const path = [dirname(process.execPath), shellEnv({})["PATH"]].join(delimiter);
  const options = { cwd: copy, env: shellEnv({ PATH: path }), timeout: LIMIT_MS, maxBuffer: 64 * 1024 * 1024 };
  await run("npm", ["run", "release"], options);
}
