import { readFile, writeFile } from "node:fs/promises";
import { processIdentity } from "./process-identity.ts";

/** A process as recorded in a file. The pid alone is not enough: it may belong to another process by now. */
export type Owner = { readonly pid: number; readonly identity: string };

/** @param flag `wx`: fails with EEXIST if the file exists. */
export async function writeOwner(file: string, pid: number, flag: "w" | "wx" = "w"): Promise<void> {
  await writeFile(file, JSON.stringify({ pid, identity: await processIdentity(pid) }), { flag });
}

/** @returns null if the file does not exist, or a crash cut it off: the file proves nothing then. */
export async function readOwner(file: string): Promise<Owner | null> {
  try {
    const owner: unknown = JSON.parse(await readFile(file, "utf8"));
    if (typeof owner !== "object" || owner === null || !("pid" in owner) || !("identity" in owner)) return null;
    const { pid, identity } = owner;
    const whole = typeof pid === "number" && Number.isInteger(pid) && pid > 1 && typeof identity === "string";
    return whole ? { pid, identity } : null;
  } catch {
    return null;
  }
}

/** Does this same process still run, and not another one with its pid? */
export async function isAlive(owner: Owner): Promise<boolean> {
  return (await processIdentity(owner.pid)) === owner.identity;
}
