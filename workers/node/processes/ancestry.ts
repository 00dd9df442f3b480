import type { ProcessRow } from "./process-table.ts";

/** Processes by their pid. */
export type Table = ReadonlyMap<number, ProcessRow>;

export const tableOf = (rows: readonly ProcessRow[]): Table => new Map(rows.map((row) => [row.pid, row]));

/**
 * @returns a function that gives the result of `find` for a process or, if there is none, for its nearest ancestor. `find`
 *   is called once for each process, so deep trees cost no more than flat ones. It also ends in a circle, which a table may
 *   show that was read while processes came and went.
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
