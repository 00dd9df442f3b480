import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { checkOwnFolder, NotOwn } from "../../../workers/node/files/own-files.ts";
import { errorCode } from "../../error-text.ts";
import { isAlive, readOwner, writeOwner } from "../processes/owner-file.ts";
import { UsageError } from "../terminal/usage-error.ts";
import { waitUntil } from "../processes/wait-until.ts";
import type { Step } from "./steps.ts";

const LOCK = "up.pid";
const GUARD = "guard.pid";
const IGNORE = ".gitignore";
/** The guard's own limit and some more. */
const FORMER_LIMIT_MS = 15_000;

/** The folder where one `stitch up` at a time keeps its cluster. */
export type Home = {
  readonly dir: string;
  /** Remembers the guard of this run, so that the next can wait for it. */
  recordGuard(pid: number): Promise<void>;
  /** Removes all that is in it, but for what shows that it is taken. */
  clear(): Promise<void>;
  /** Gives the folder free. May be called twice. */
  release(): Promise<void>;
};

/**
 * Takes the folder for this process, once what a killed `stitch up` left behind has ended.
 * @throws UsageError where another `stitch up` runs there, it cannot be written to, or others may write to it.
 */
export async function takeHome(dir: string, step: Step): Promise<Home> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    checkOwnFolder(dir);
    await lock(join(dir, LOCK), dir);
  } catch (error) {
    if (!(error instanceof NotOwn || (error instanceof Error && "code" in error))) throw error;
    throw new UsageError(
      `${dir}, where stitch up keeps its cluster, cannot be used (${error.message}). Make it a folder that you alone may write to, or go to another folder`,
    );
  }
  const release = (): Promise<void> => rm(join(dir, LOCK), { force: true });
  try {
    // It may be in the folder of somebody's project.
    await writeFile(join(dir, IGNORE), "*\n");
    const guard = await readOwner(join(dir, GUARD));
    if (guard !== null && (await isAlive(guard))) {
      const gone = await step("what a killed run left behind has ended", () =>
        waitUntil(async () => !(await isAlive(guard)), FORMER_LIMIT_MS),
      );
      if (!gone)
        throw new UsageError(`the guard of a former run (pid ${guard.pid}) does not end. Type: kill ${guard.pid}`);
    }
  } catch (error) {
    await release();
    throw error;
  }
  return { dir, recordGuard: (pid) => writeOwner(join(dir, GUARD), pid), clear: () => clear(dir), release };
}

async function lock(file: string, dir: string): Promise<void> {
  for (;;) {
    try {
      await writeOwner(file, process.pid, "wx");
      return;
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
    }
    const owner = await readOwner(file);
    if (owner !== null && (await isAlive(owner))) {
      throw new UsageError(
        `stitch up already runs in ${dir} (pid ${owner.pid}). Stop it with Ctrl-C, or start another cluster in another folder with another STITCH_PORT`,
      );
    }
    await rm(file, { force: true });
  }
}

async function clear(dir: string): Promise<void> {
  for (const name of await readdir(dir)) {
    if (name !== LOCK && name !== IGNORE) await rm(join(dir, name), { recursive: true, force: true });
  }
}
