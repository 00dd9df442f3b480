// Makes the table of keys in docs/operations.md from src/redis/layout.ts.
//   node_modules/.bin/node test/support/key-table.ts      writes the table
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Keys } from "../../src/redis/keys.ts";
import { type KeyRow, LAYOUT } from "../../src/redis/layout.ts";
import { QUEUE_LAYOUT } from "../../src/redis/queue-layout.ts";

export const OPERATIONS = join(import.meta.dirname, "../../docs/operations.md");
const BEGIN = "<!-- The next table is made from src/redis/layout.ts by test/support/key-table.ts. -->";
const END = "<!-- Its end. -->";

/** Each key of a cluster with its row of the layout. Names are as in the table, such as `<node>`. */
export function keysOf(cluster: string, nameOf = (what: string) => `<${what}>`): { key: string; row: KeyRow }[] {
  const keys = new Keys(cluster);
  const own = Object.entries(LAYOUT).map(([name, row]) => {
    const made: unknown = Reflect.get(keys, name, keys);
    const names = row.of.map(nameOf);
    const key = typeof made === "function" ? String(Reflect.apply(made, keys, names)) : String(made);
    return { key, row };
  });
  const parts = Object.entries(QUEUE_LAYOUT).map(([part, row]) => ({
    part: part.replace("<task>", nameOf("task")),
    row,
  }));
  const ofNodes = parts.map(({ part, row }) => ({
    key: keys.nodeQueue(nameOf("node"), part),
    row: { of: ["node"], ...row },
  }));
  const ofMasters = parts.map(({ part, row }) => ({ key: keys.mastersQueue(part), row: { of: [], ...row } }));
  return [...own, ...ofNodes, ...ofMasters];
}

/** The row of a key that was found in Redis; null if the layout has none. */
export function rowOf(cluster: string, key: string): KeyRow | null {
  const hole = "\0";
  const rows = keysOf(cluster, () => hole).map(({ key: pattern, row }) => {
    const parts = pattern.split(hole).map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`));
    return { parts: parts.length, row, fits: new RegExp(`^${parts.join("[^{}:]+")}$`).test(key) };
  });
  // The row with the fewest open parts: `…:commands:meta` is not a task.
  return rows.filter(({ fits }) => fits).sort((a, b) => a.parts - b.parts)[0]?.row ?? null;
}

export function keyTable(): string {
  const header = ["Key", "Type", "What", "Written by", "Bound or lifetime"];
  // The masters' queue has the rows of a node's queue.
  const isShown = (key: string) => !key.includes("{masters}:commands:");
  const rows = keysOf("<cluster>")
    .filter(({ key }) => isShown(key))
    .map(({ key, row }) => [`\`${key}\``, row.types.join(", "), row.holds, row.writer, row.bound]);
  const lines = [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`);
  return lines.join("\n");
}

/** The text before the table in the docs, the table, and the text after it. */
function partsOf(text: string): [before: string, table: string, after: string] {
  const [before = "", rest = ""] = text.split(BEGIN);
  const [table = "", after = ""] = rest.split(END);
  if (table === "" || after === "") throw new Error(`${OPERATIONS} has no place for the table of keys`);
  return [before, table.trim(), after];
}

/** The docs with the table as it should be, before `npm run format` aligns its columns. */
function withKeyTable(text: string): string {
  const [before, , after] = partsOf(text);
  return `${before}${BEGIN}\n\n${keyTable()}\n\n${END}${after}`;
}

/** The cells of the table in the docs, row by row. */
export const cellsIn = (text: string): string[][] => cellsOf(partsOf(text)[1]);

/** The cells of a table, row by row, without the line below the header. */
export const cellsOf = (table: string): string[][] =>
  table
    .split("\n")
    .filter((line) => !/^[|\s-]+$/.test(line))
    .map((line) => line.split(" | ").map((cell) => cell.replaceAll(/^[|\s]+|[|\s]+$/g, "")));

if (import.meta.main) writeFileSync(OPERATIONS, withKeyTable(readFileSync(OPERATIONS, "utf8")));
