import { readFile, writeFile } from "node:fs/promises";
import { processIdentity } from "./process-identity.ts";

/** A process as a file remembers it: its pid alone might be another's by now. */
export type Owner = { readonly pid: number; readonly identity: string };

/** @param flag `wx`: fails with EEXIST where the file is there. */
export async function writeOwner(file: string, pid: number, flag: "w" | "wx" = "w"): Promise<void> {
  await writeFile(file, JSON.stringify({ pid, identity: await processIdentity(pid) }), { flag });
}

/** @returns null where there is no such file, or it was cut off by a crash: it proves nothing then. */
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

/** Does that very process still live, and no other with its pid? */
export async function isAlive(owner: Owner): Promise<boolean> {
  return (await processIdentity(owner.pid)) === owner.identity;
}
