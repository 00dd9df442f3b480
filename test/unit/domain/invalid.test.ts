import assert from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod";
import { invalidOf } from "../../../src/domain/json/invalid.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";

/** The path and the message of each part that the schema refuses. */
function said(schema: z.ZodType, value: unknown): [path: string, message: string][] {
  const { error } = schema.safeParse(value);
  assert.ok(error);
  return invalidOf(error).map(({ path, message }) => [path, message]);
}

test("says that a missing field is required, and which type another one must have", () => {
  const schema = z.strictObject({ a: z.string(), deep: z.strictObject({ b: z.int() }) });
  assert.deepEqual(said(schema, { deep: {} }), [
    ["a", "is required"],
    ["deep.b", "is required"],
  ]);
  assert.deepEqual(said(schema, { a: 1, deep: { b: 1 } }), [["a", "Invalid input: expected string, received number"]]);
  assert.deepEqual(said(schema, null), [["", "Invalid input: expected object, received null"]]);
});

test("names each unknown field", () => {
  const found = said(z.strictObject({ deep: z.strictObject({}) }), { c: 1, deep: { d: 1, e: 1 } });
  assert.deepEqual(found.map(([path]) => path).sort(), ["c", "deep.d", "deep.e"]);
});

test("says why a variable is refused", () => {
  const env = { NODE_OPTIONS: "x", LD_PRELOAD: "x", "1A": "y" };
  const refused = "may not be set: it would change how the program is loaded, or is the node's own";
  assert.deepEqual(said(stitchSpec, { adaptor: "process", command: ["a"], env }), [
    ["env.NODE_OPTIONS", refused],
    ["env.LD_PRELOAD", refused],
    ["env.1A", "must be a name of letters, digits and _"],
  ]);
});

test("a command that is no list of words gets an example of one", () => {
  for (const command of [undefined, "sleep 60", { 0: "sleep" }])
    assert.deepEqual(said(stitchSpec, { adaptor: "process", command }), [
      ["command", 'must be a list of words, such as ["sleep", "60"]'],
    ]);
});
