import assert from "node:assert/strict";
import { test } from "node:test";
import { renderFacts, renderTable } from "../../../src/cli/terminal/table.ts";
import { printableJson, printableText } from "../../../src/printable.ts";

const columns = [
  { key: "node", title: "NODE" },
  { key: "stitches", title: "STITCHES", align: "right" },
  { key: "zone", title: "ZONE" },
] as const;

test("aligns columns, numbers to the right, without spaces at the end of a line", () => {
  const rows = [
    { node: "n1", stitches: "3", zone: "a" },
    { node: "a-long-name", stitches: "12", zone: "" },
  ];
  assert.equal(
    renderTable(rows, columns),
    ["NODE         STITCHES  ZONE", "n1                  3  a", "a-long-name        12  -"].join("\n"),
  );
});

test("without rows, prints only the headings", () => {
  assert.equal(renderTable([], columns), "NODE  STITCHES  ZONE");
});

test("cuts lines to the width of a terminal, and never without a terminal", () => {
  const rows = [{ node: "x".repeat(300), stitches: "1", zone: "a" }];
  assert.ok(renderTable(rows, columns).includes("x".repeat(300)));
  for (const line of renderTable(rows, columns, 40).split("\n")) assert.ok(line.length <= 40, line);
  assert.match(renderTable(rows, columns, 40), /…$/);
});

test("text from elsewhere cannot control the terminal or break the line", () => {
  const shown = renderTable([{ node: "a\u001b[2Jb\nc\u009bd", stitches: "1", zone: "" }], columns);
  assert.equal(shown.split("\n").length, 2);
  assert.ok(shown.includes("a�[2Jb�c�d"), shown);
});

test("aligns facts, and shows an empty one as a dash", () => {
  assert.equal(renderFacts({ id: "n1", "last beat": "" }), "id         n1\nlast beat  -");
});

test("text of several lines keeps its line ends and tabs, and cannot control the terminal", () => {
  assert.equal(printableText("a\tb\n\u001b[31mred\u001b[0m\r\n\u0007"), "a\tb\nred\ufffd\n\ufffd");
});

test("printed JSON keeps its meaning and cannot control the terminal", () => {
  const value = { line: "\u009b31mred\u001b[0m\u007f\u202etxt.exe é \u{1F600}\t", "\u0085": 1 };
  const text = printableJson(value);
  assert.doesNotMatch(text, /[\p{Cc}\p{Bidi_Control}]/u);
  assert.ok(text.includes("é \u{1F600}"), "what steers nothing is as it was");
  assert.deepEqual(JSON.parse(text), value);
});
