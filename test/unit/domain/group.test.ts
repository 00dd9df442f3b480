import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  formatGroup,
  fullGroupName,
  groupContains,
  groupName,
  parseFullGroup,
  parseGroup,
} from "../../../src/domain/names/group.ts";

const part = fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/);
const parts = fc.array(part, { minLength: 1, maxLength: 3 });
/** Parts with similar beginnings, so that many groups almost contain each other. */
const near = fc
  .array(fc.constantFrom("shop", "shopping", "Shop", "s"), { minLength: 1, maxLength: 3 })
  .map((each) => each.join("."));

test("a group is parsed into its parts and written back unchanged", () => {
  fc.assert(
    fc.property(parts, (each) => {
      const text = each.join(".");
      const group = parseGroup(text);
      assert.ok(group !== null);
      const [application, component = null, version = null] = each;
      assert.deepEqual(group, { application, component, version });
      assert.equal(formatGroup(group), text);
      assert.ok(groupName.safeParse(text).success);
    }),
  );
});

test("any text is either refused or written back unchanged", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[a.\n -]{0,9}$/));
  fc.assert(
    fc.property(text, (any) => {
      const group = parseGroup(any);
      assert.equal(groupName.safeParse(any).success, group !== null);
      if (group !== null) assert.equal(formatGroup(group), any);
      else assert.equal(parseFullGroup(any), null);
    }),
  );
});

test("a full group has exactly three parts", () => {
  fc.assert(
    fc.property(parts, (each) => {
      const text = each.join(".");
      const full = each.length === 3;
      assert.equal(fullGroupName.safeParse(text).success, full);
      assert.deepEqual(parseFullGroup(text), full ? parseGroup(text) : null);
    }),
  );
});

for (const wrong of ["", ".", "a.", ".a", "a..b", "a.b.c.d", "a b", "a.b.c\n", "ä", "a/b", "a:b", "a".repeat(64)]) {
  test(`${JSON.stringify(wrong.slice(0, 10))} (${wrong.length} characters) is no group`, () => {
    assert.equal(parseGroup(wrong), null);
    const said = groupName.safeParse(wrong).error?.issues[0]?.message;
    assert.match(said ?? "", /application\[\.component\[\.version\]\]/);
    assert.match(fullGroupName.safeParse(wrong).error?.issues[0]?.message ?? "", /application\.component\.version/);
  });
}

test("a group contains exactly the groups that begin with its parts", () => {
  fc.assert(
    fc.property(near, near, (outer, inner) => {
      const [o, i] = [outer.split("."), inner.split(".")];
      assert.equal(
        groupContains(outer, inner),
        o.every((each, index) => i[index] === each),
      );
    }),
  );
});

test("a group contains every group made by adding parts to it", () => {
  fc.assert(
    fc.property(parts, fc.nat(2), (each, less) => {
      assert.ok(groupContains(each.slice(0, Math.max(1, each.length - less)).join("."), each.join(".")));
    }),
  );
});

test("groupContains is a partial order: reflexive, antisymmetric and transitive", () => {
  fc.assert(
    fc.property(near, near, near, (a, b, c) => {
      assert.ok(groupContains(a, a));
      if (groupContains(a, b) && groupContains(b, a)) assert.equal(a, b);
      if (groupContains(a, b) && groupContains(b, c)) assert.ok(groupContains(a, c));
    }),
    { numRuns: 1000 },
  );
});

test("shop contains shop.orders, and neither shopping nor Shop", () => {
  assert.equal(groupContains("shop", "shop.orders"), true);
  assert.equal(groupContains("shop.orders", "shop"), false);
  assert.equal(groupContains("shop", "shopping.orders"), false);
  assert.equal(groupContains("shop", "Shop.orders"), false);
});
