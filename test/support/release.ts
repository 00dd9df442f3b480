import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { promisify } from "node:util";
import { shellEnv } from "./script.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const LIMIT_MS = 5 * 60_000;

/** What `npm run release` makes. */
export type Release = {
  /** The folder, unpacked. */
  readonly folder: string;
  readonly archive: string;
  /** Deletes all of it. */
  readonly remove: () => void;
};

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

/** Makes a release of this repository as it is on disk. */
export async function makeRelease(): Promise<Release> {
  const copy = await copyOfRepository();
  const remove = () => rmSync(copy, { recursive: true, force: true });
  try {
    await runRelease(copy);
  } catch (error) {
    remove();
    throw error;
  }
  const made = join(copy, "release");
  const archive = readdirSync(made).find((name) => name.endsWith(".tar.gz")) ?? "";
  const [folder = ""] = readdirSync(made).filter((name) => name !== archive);
  return { folder: join(made, folder), archive: join(made, archive), remove };
}
