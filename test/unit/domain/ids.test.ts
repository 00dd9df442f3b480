import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  clusterName,
  fullId,
  generatedStitchId,
  jobId,
  jobIdFromBytes,
  nodeId,
  nodeIdFromHostname,
  parseStitchRef,
  splitFullId,
  stitchId,
  stitchRef,
} from "../../../src/domain/names/ids.ts";

const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,62}$/);
const nodeName = name.filter((id) => id !== "api");
const component = fc.stringMatching(/^[A-Za-z0-9_-]{1,63}$/);
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });

test("names of 1 to 63 lower-case letters, digits and - are valid ids of clusters, nodes and stitches", () => {
  fc.assert(
    fc.property(nodeName, (id) => {
      for (const schema of [clusterName, nodeId, stitchId]) assert.ok(schema.safeParse(id).success, id);
    }),
  );
});

for (const wrong of ["", "-a", "A", "a_b", "a.b", "a:b", "a b", "a\n", "ä", "a".repeat(64)]) {
  test(`${JSON.stringify(wrong.slice(0, 10))} (${wrong.length} characters) is no id`, () => {
    for (const schema of [clusterName, nodeId, stitchId])
      assert.match(schema.safeParse(wrong).error?.issues[0]?.message ?? "", /is 1 to 63 characters/);
  });
}

test("api is no node id, neither alone nor in a full id; a cluster or a stitch may be called api", () => {
  assert.match(nodeId.safeParse("api").error?.issues[0]?.message ?? "", /reserved/);
  assert.equal(parseStitchRef("api:orders-1"), null);
  assert.deepEqual(parseStitchRef("n1:api"), { node: "n1", stitch: "api" });
  assert.deepEqual(parseStitchRef("api"), { node: null, stitch: "api" });
  assert.ok(clusterName.safeParse("api").success);
});

test("a bare id and a full id are parsed into node and stitch", () => {
  fc.assert(
    fc.property(nodeName, name, (node, stitch) => {
      assert.deepEqual(parseStitchRef(stitch), { node: null, stitch });
      assert.deepEqual(parseStitchRef(fullId(node, stitch)), { node, stitch });
      assert.deepEqual(splitFullId(fullId(node, stitch)), { node, stitch });
      assert.ok(stitchRef.safeParse(stitch).success && stitchRef.safeParse(fullId(node, stitch)).success);
    }),
  );
});

test("any text is either refused as a stitch, or equals the text of its parts", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[aB:\n-]{0,6}$/)), (text) => {
      const ref = parseStitchRef(text);
      assert.equal(stitchRef.safeParse(text).success, ref !== null);
      if (ref === null) return;
      assert.equal(ref.node === null ? ref.stitch : fullId(ref.node, ref.stitch), text);
      assert.ok(stitchId.safeParse(ref.stitch).success);
      assert.ok(ref.node === null || nodeId.safeParse(ref.node).success);
    }),
  );
});

test("an id with too many parts or empty parts is no stitch id", () => {
  for (const wrong of ["", ":", "n1:", ":a", "n1:a:b", "n1::a", "N1:a", "n1:A"]) {
    assert.equal(parseStitchRef(wrong), null, wrong);
    assert.throws(() => splitFullId(wrong), /not a full stitch id/);
  }
  assert.throws(() => splitFullId("orders-1"), /not a full stitch id: "orders-1"/);
});

test("every host name gives a valid node id", () => {
  const hostname = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[-aA_.]{0,90}$/), fc.domain());
  fc.assert(fc.property(hostname, (host) => nodeId.safeParse(nodeIdFromHostname(host)).success));
});

test("a node id is the first label of the host name, in lower case, with - for other characters", () => {
  assert.equal(nodeIdFromHostname("Web_01.example.com"), "web-01");
  assert.equal(nodeIdFromHostname("--x.y"), "x");
  assert.equal(nodeIdFromHostname(`-${"a".repeat(90)}.b`), "a".repeat(63));
  for (const host of ["", "api", "API.example.com", "---", ".a"]) assert.equal(nodeIdFromHostname(host), "node");
});

const counted = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });

test("a generated stitch id is valid and ends with its number, whatever the component", () => {
  fc.assert(
    fc.property(component, counted, (of, n) => {
      const id = generatedStitchId(of, n);
      assert.ok(stitchId.safeParse(id).success, id);
      assert.ok(id.endsWith(`-${n}`));
    }),
  );
  assert.equal(generatedStitchId("Order_Items", 12), "order-items-12");
  assert.equal(generatedStitchId("___", 3), "stitch-3");
  assert.equal(generatedStitchId("A".repeat(63), 1234), `${"a".repeat(47)}-1234`);
});

test("different numbers give different stitch ids, even if the components become the same text", () => {
  fc.assert(
    fc.property(component, component, counted, counted, (a, b, n, m) => {
      fc.pre(n !== m);
      assert.notEqual(generatedStitchId(a, n), generatedStitchId(b, m));
    }),
  );
});

/** RFC 4648 base32 of the first 130 bits, by arithmetic instead of shifts. */
function base32(of: Uint8Array): string {
  const bits = BigInt(`0x${Buffer.from(of.subarray(0, 17)).toString("hex")}`) >> 6n;
  const digits = bits.toString(32).padStart(26, "0");
  return digits.replace(/./g, (digit) => "abcdefghijklmnopqrstuvwxyz234567".charAt(Number.parseInt(digit, 32)));
}

test("a job id is valid and encodes the first 130 bits of its bytes, so different bits give different ids", () => {
  fc.assert(
    fc.property(bytes(17), bytes(15), (first, more) => {
      const id = jobIdFromBytes(first);
      assert.ok(jobId.safeParse(id).success, id);
      assert.equal(id, `j${base32(first)}`);
      assert.equal(jobIdFromBytes(Uint8Array.from([...first, ...more])), id);
    }),
  );
});

test("fewer than 17 bytes make no job id, and a text of another form is none", () => {
  assert.throws(() => jobIdFromBytes(new Uint8Array(16)), RangeError);
  for (const wrong of ["", "j", `j${"a".repeat(25)}`, `j${"a".repeat(27)}`, `J${"a".repeat(26)}`, `j${"1".repeat(26)}`])
    assert.match(jobId.safeParse(wrong).error?.issues[0]?.message ?? "", /26 letters or digits/);
});
