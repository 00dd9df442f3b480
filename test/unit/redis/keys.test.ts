import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Keys } from "../../../src/redis/keys.ts";
import { LAYOUT } from "../../../src/redis/layout.ts";
import { cellsIn, cellsOf, keysOf, keyTable, OPERATIONS, rowOf } from "../../support/key-table.ts";

/** These make prefixes and channels: nothing is stored under them. */
const NO_KEYS = ["constructor", "node", "mastersShare", "replyChannel", "jobChannel"];
/** Their rows are those of BullMQ's keys. */
const QUEUES = ["nodeQueue", "mastersQueue"];

test("every key has a row in the layout", () => {
  const made = Object.getOwnPropertyNames(Keys.prototype).filter((name) => !NO_KEYS.includes(name));
  assert.deepEqual(made.filter((name) => !QUEUES.includes(name)).sort(), Object.keys(LAYOUT).sort());
  for (const { key, row } of keysOf("c")) assert.ok(row.bound !== "" && row.writer !== "", key);
});

test("the table in docs/operations.md matches the layout (test/support/key-table.ts writes it)", () => {
  assert.deepEqual(cellsIn(readFileSync(OPERATIONS, "utf8")), cellsOf(keyTable()));
});

test("finds the row of a key, and none for unknown keys and other clusters", () => {
  for (const { key, row } of keysOf("c", (what) => `${what}-1`)) assert.equal(rowOf("c", key)?.holds, row.holds, key);
  assert.equal(rowOf("c", "cs:c:else"), null);
  assert.equal(rowOf("c", "cs:d:nodes"), null);
});
