import { printable } from "../../printable.ts";

/** One column: which field of a row, its heading, and `right` for numbers. */
export type Column = { readonly key: string; readonly title: string; readonly align?: "right" };

const GAP = "  ";

/**
 * Rows under headings, in aligned columns, without boxes; no line ends in spaces, and the last has no line break.
 * A missing field is `-`. Characters that control a terminal are shown as `�`.
 * @param width columns of the terminal: longer lines are cut with `…`. Left out (no terminal): nothing is cut.
 */
export function renderTable(
  rows: readonly Readonly<Record<string, string>>[],
  columns: readonly Column[],
  width?: number,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(row[column.key] ?? "") || "-"));
  const titles = columns.map((column) => column.title);
  const widths = columns.map((_, index) => Math.max(...[titles, ...cells].map((line) => lengthOf(line[index] ?? ""))));
  return [titles, ...cells]
    .map((line) =>
      line.map((cell, index) => padded(cell, widths[index] ?? 0, columns[index]?.align ?? "left")).join(GAP),
    )
    .map((line) => cut(line.trimEnd(), width))
    .join("\n");
}

/** Names and their values, one pair per line. As in tables, a missing value is `-`. */
export function renderFacts(facts: Readonly<Record<string, string>>): string {
  const widest = Math.max(...Object.keys(facts).map(lengthOf));
  return Object.entries(facts)
    .map(([name, value]) => padded(name, widest, "left") + GAP + (printable(value) || "-"))
    .join("\n");
}

/** @param width undefined: nothing is cut. */
export function cut(text: string, width: number | undefined): string {
  if (width === undefined || lengthOf(text) <= width) return text;
  return `${Array.from(text)
    .slice(0, Math.max(0, width - 1))
    .join("")}…`;
}

const lengthOf = (text: string): number => Array.from(text).length;

function padded(cell: string, width: number, align: "left" | "right"): string {
  const fill = " ".repeat(Math.max(0, width - lengthOf(cell)));
  return align === "right" ? fill + cell : cell + fill;
}
