import assert from "node:assert/strict";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type TestCluster, until } from "./cluster.ts";

/** A stitch's own folder on its node, where the stitches of the tests note what they saw (`journalOf`). */
export const dataDirOf = (cluster: TestCluster, node: string, id: string): string =>
  join(folderOf(cluster, node), "data", id);

/** The lines of a stitch's log, oldest first, as its node keeps them. */
export const logOf = (cluster: TestCluster, node: string, id: string): { source: string; line: string }[] =>
  jsonLines(join(folderOf(cluster, node), "logs", `${id}.log`)) as { source: string; line: string }[];

/** What a stitch wrote into its `journal`, a JSON value on each line. */
export const journalOf = (cluster: TestCluster, node: string, id: string): Record<string, unknown>[] =>
  jsonLines(join(dataDirOf(cluster, node, id), "journal")) as Record<string, unknown>[];

/** Like `journalOf`, for all stitches that have had this id: `journal-<id>` beside the data folders. */
export const lastingJournalOf = (cluster: TestCluster, node: string, id: string): Record<string, unknown>[] =>
  jsonLines(join(folderOf(cluster, node), `journal-${id}`)) as Record<string, unknown>[];

/**
 * Fails unless each stitch was started `times` times on its node, by the lines of the file in which its program counts its
 * starts. Waits for the lines, because a process runs before its shell has written one.
 */
export async function startedTimes(
  cluster: TestCluster,
  times: number,
  fullIds: readonly string[],
  file = "starts",
): Promise<void> {
  const startsOf = (fullId: string): number => {
    const [node = "", id = ""] = fullId.split(":");
    return linesOf(join(dataDirOf(cluster, node, id), file)).length;
  };
  for (const id of fullIds) {
    await until(`${id} has been started ${times} times`, () => startsOf(id) >= times);
    assert.equal(startsOf(id), times, `starts of ${id}`);
  }
}

type RecordLine = { readonly kind: string; readonly record: Readonly<Record<string, unknown>> };

/** The records of its stitches that a node has on its disk, oldest first. */
export const recordsOf = (cluster: TestCluster, node: string): RecordLine[] =>
  (jsonLines(recordsPath(cluster, node)) as Partial<RecordLine>[]).filter(
    (line): line is RecordLine => line.record !== undefined,
  );

/** Adds a record to the node's disk. The node must not run. */
export const addRecord = (cluster: TestCluster, node: string, line: RecordLine): void =>
  appendFileSync(recordsPath(cluster, node), `${JSON.stringify(line)}\n`);

const recordsPath = (cluster: TestCluster, node: string): string => join(folderOf(cluster, node), "stitches.jsonl");

export const folderOf = (cluster: TestCluster, node: string): string =>
  join(cluster.dir, `state-${node}`, cluster.name, node);

const jsonLines = (path: string): unknown[] => linesOf(path).map((line) => JSON.parse(line) as unknown);

/** The complete lines of a file, without the one that is just being written; none if the file is not there yet. */
export function linesOf(path: string): string[] {
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
}
