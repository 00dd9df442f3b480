import type { ProcessRow } from "./process-table.ts";

/** Processes by their pid. */
export type Table = ReadonlyMap<number, ProcessRow>;

export const tableOf = (rows: readonly ProcessRow[]): Table => new Map(rows.map((row) => [row.pid, row]));

/**
 * @returns what `find` has for a process or, if nothing, for the nearest of its ancestors. Each is asked once: deep trees
 * cost no more than flat ones, and a circle ends, which a table may show that was read while processes came and went.
 */
export function nearest<T>(table: Table, find: (row: ProcessRow) => T | undefined): (row: ProcessRow) => T | undefined {
  const known = new Map<number, T | undefined>();
  return (row) => {
    const asked: number[] = [];
    let found: T | undefined;
    for (let at: ProcessRow | undefined = row; at !== undefined && found === undefined; at = table.get(at.parent)) {
      if (known.has(at.pid)) {
        found = known.get(at.pid);
        break;
      }
      found = find(at);
      known.set(at.pid, found);
      asked.push(at.pid);
    }
    for (const pid of asked) known.set(pid, found);
    return found;
  };
}
