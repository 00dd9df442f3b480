import assert from "node:assert/strict";
import { test } from "node:test";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { onlyAssigned } from "../../../workers/node/stitches/only-assigned.ts";
import { stored } from "../../support/test-spec.ts";
import { testStitch } from "../../support/test-stitch.ts";

const specOf = (word: string) => stored(stitchSpec.parse({ adaptor: "process", command: [word] }));
const [a, b, c] = [specOf("a"), specOf("b"), specOf("c")];

test("merges the stitches that Masters have assigned, as they assigned them, and reports the others", async () => {
  const shown = (id: string, born: string, of: typeof a) =>
    testStitch(id, { ...of, born, revision: "9.0", group: "x.y.1" });
  const assignedTo = (of: typeof a, born: string) => ({
    specHash: of.specHash,
    group: "shop.web.1",
    placement: { strategy: "binpack" as const },
    born,
    placed: born,
    isOver: false,
  });
  const errors: string[] = [];
  const brought: string[] = [];
  const lost = { is: testStitch("lost", { ...c, born: "1.0" }), forged: testStitch("forged", { ...b, born: "1.0" }) };
  const merged = await onlyAssigned(
    {
      stitches: [
        shown("same", "5.0", a),
        shown("older", "5.0", a),
        shown("another", "6.0", a),
        shown("none", "5.0", a),
      ],
      removed: [],
    },
    {
      node: "n1",
      host: { wouldTake: ({ id }) => id !== "older" },
      registry: { withoutSpec: () => Object.values(lost) },
      orders: {
        assigned: async (ids) => {
          assert.deepEqual([...ids].sort(), ["another", "forged", "lost", "none", "same"]);
          return new Map([
            ["same", [assignedTo(c, "7.0"), assignedTo(b, "5.0")]],
            ["another", [assignedTo(b, "5.0")]],
            ["lost", [assignedTo(c, "1.0")]],
            ["forged", [assignedTo(c, "1.0")]],
          ]);
        },
      },
      specs: {
        bring: async (hashes) => {
          brought.push(...hashes);
          return new Map();
        },
      },
      onError: (error) => errors.push(String(error)),
    },
  );
  assert.deepEqual(
    merged.stitches.map(({ id, specHash, group, placement }) => [id, specHash, group, placement.strategy]),
    [["same", b.specHash, "shop.web.1", "binpack"]],
  );
  assert.deepEqual(brought, [b.specHash, c.specHash]);
  assert.deepEqual(
    errors.map((text) => /n1:(\S+) that no Master has assigned/.exec(text)?.[1]),
    ["another", "none"],
  );
});

test("if no published record would be merged, asks no Master and merges nothing", async () => {
  const merged = await onlyAssigned(
    { stitches: [testStitch("a")], removed: [] },
    {
      node: "n1",
      host: { wouldTake: () => false },
      registry: { withoutSpec: () => [] },
      orders: { assigned: () => assert.fail("asked") },
      specs: { bring: () => assert.fail("asked") },
      onError: (error) => assert.fail(String(error)),
    },
  );
  assert.deepEqual(merged, { stitches: [], removed: [] });
});
