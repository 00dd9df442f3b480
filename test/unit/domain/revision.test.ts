import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  compareRevisions,
  formatRevision,
  NO_REVISION,
  parseRevision,
  type Revision,
  revisionText,
} from "../../../src/domain/names/revision.ts";

const revision = fc
  .tuple(
    fc.oneof(fc.nat(3), fc.integer({ min: 0, max: 999_999_999_999_999 })),
    fc.oneof(fc.nat(3), fc.integer({ min: 0, max: 999_999_999 })),
  )
  .map(([number, wave]): Revision => ({ revision: number, wave }));
const sign = (a: Revision, b: Revision) => Math.sign(compareRevisions(a, b));

test("a revision is written as text and read back unchanged", () => {
  fc.assert(
    fc.property(revision, (r) => {
      assert.ok(revisionText.safeParse(formatRevision(r)).success);
      assert.deepEqual(parseRevision(formatRevision(r)), r);
    }),
  );
  assert.equal(formatRevision({ revision: 1042, wave: 0 }), "1042.0");
});

test("compareRevisions is a total order, and is 0 only for equal revisions", () => {
  fc.assert(
    fc.property(revision, revision, revision, (a, b, c) => {
      assert.equal(sign(a, b) + sign(b, a), 0);
      assert.equal(compareRevisions(a, b) === 0, a.revision === b.revision && a.wave === b.wave);
      if (sign(a, b) <= 0 && sign(b, c) <= 0) assert.ok(sign(a, c) <= 0);
    }),
    { numRuns: 1000 },
  );
});

test("the number counts before the wave, and both are compared as numbers", () => {
  const inOrder = ["1.0", "1.2", "1.10", "2.0", "10.0", "10.1"].map(parseRevision);
  assert.deepEqual(inOrder.toReversed().toSorted(compareRevisions), inOrder);
});

test("NO_REVISION is older than every revision that can be drawn", () => {
  fc.assert(fc.property(revision, (r) => r.revision === 0 || sign(NO_REVISION, r) === -1));
});

for (const wrong of ["", "1", "1.", ".1", "1.2.3", "-1.0", "1.0\n", " 1.0", "1e3.0", "1234567890123456.0"]) {
  test(`${JSON.stringify(wrong)} is no revision`, () => {
    assert.equal(revisionText.safeParse(wrong).success, false);
    assert.throws(() => parseRevision(wrong), /not a revision/);
  });
}
