import type { Task } from "../../domain/job/job.ts";
import { canonicalJson } from "../../domain/json/canonical-json.ts";
import { sha256Hex } from "../../domain/json/digest.ts";

/**
 * What a task is to do, as 128 bits of its SHA-256: the same in each attempt. The record keeps it, and a claim compares it: after
 * a failover an entry in a node's queue may have the id of another task.
 */
export function taskDigest(task: Task): Promise<string> {
  const known = digests.get(task) ?? digestOf(task);
  digests.set(task, known);
  return known;
}

/** A task may be large, and its node needs the digest for its claim and for each batch of outcomes. */
const digests = new WeakMap<Task, Promise<string>>();

async function digestOf({ attempt: _, ...task }: Task): Promise<string> {
  return (await sha256Hex(canonicalJson(task))).slice(0, 32);
}

/** What a claim compares of a task that a leader has sent; null for others. */
export const ledBy = async (
  task: Task,
  election: string | null,
): Promise<{ readonly election: string; readonly digest: string } | null> =>
  election === null ? null : { election, digest: await taskDigest(task) };

/** The fields that keep digests of tasks, as field, value, …; none outside of the mode `leader`, where nothing compares them. */
export async function digestFields(tasks: readonly Task[], isLed: boolean): Promise<string[]> {
  if (!isLed) return [];
  const pairs = await Promise.all(tasks.map(async (task) => [`task:${task.id}`, await taskDigest(task)]));
  return pairs.flat();
}
