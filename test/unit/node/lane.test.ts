import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Lane, type Parcel } from "../../../workers/node/sending/lane.ts";

type Numbered = Parcel & { readonly n: number };

/** `a>x` is from `a` to the stitch `x`, `a>` to several. */
const parcels = (...texts: string[]): Numbered[] =>
  texts.map((text, n) => {
    const [from = "", stitch = ""] = text.split(">");
    return { from, stitch, body: "", n };
  });
const shown = (some: readonly Parcel[]): string[] => some.map(({ from, stitch }) => `${from}>${stitch}`);

function laneOf(...texts: string[]): Lane<Numbered> {
  const lane = new Lane<Numbered>();
  for (const parcel of parcels(...texts)) lane.push(parcel);
  return lane;
}

test("takes as many as may go at once, and at least one", () => {
  const lane = laneOf(...Array.from({ length: 101 }, (_, n) => `a>s${n}`));
  assert.equal(lane.next().length, 100);
  assert.equal(lane.next().length, 1);
  assert.ok(lane.isEmpty);
  const large = "x".repeat(3 * 1024 * 1024);
  for (const parcel of parcels("a>x", "a>y", "a>z")) lane.push({ ...parcel, body: large });
  assert.deepEqual(shown(lane.next()), ["a>x"]);
  lane.push({ from: "a", stitch: "w", body: "", n: 0 });
  assert.deepEqual(shown(lane.next()), ["a>y"]);
  assert.deepEqual(shown(lane.next()), ["a>z", "a>w"]);
});

test("what a sender says to several goes in another batch than what it says to one", () => {
  const lane = laneOf("a>x", "b>", "a>", "a>y");
  assert.deepEqual(shown(lane.next()), ["a>x", "b>"]);
  assert.deepEqual(shown(lane.next()), ["a>"]);
  assert.deepEqual(shown(lane.next()), ["a>y"]);
});

test("what found no room waits aside, with what must not overtake it; all else goes on", () => {
  const lane = laneOf("a>x", "b>y", "a>x", "b>x", "a>y", "a>", "a>z", "b>", "c>z", "c>x");
  const batch = lane.next();
  assert.deepEqual(shown(batch), ["a>x", "b>y", "a>x", "b>x", "a>y"]);
  lane.settle(
    batch,
    batch.filter(({ stitch, from }) => from === "a" && stitch === "x"),
  );
  assert.deepEqual([lane.isFull("x"), lane.isFull("y"), lane.isFull("")], [true, false, false]);
  assert.deepEqual(shown(lane.aside), ["a>x", "a>x", "a>", "a>z", "c>x"]);
  assert.deepEqual(shown(lane.next()), ["b>", "c>z"]);
  assert.deepEqual(
    parcels("d>y", "d>x", "d>z", "a>y").map((each) => lane.push(each)),
    [true, false, true, false],
  );
  assert.deepEqual(shown(lane.next()), ["d>y", "d>z"]);
});

test("one for each full stitch is tried again; when it has found room the others follow", () => {
  const lane = laneOf("a>x", "a>x", "b>x", "b>y", "a>");
  const batch = lane.next();
  lane.settle(batch, batch);
  const probes = lane.probes();
  assert.deepEqual(shown(probes), ["a>x", "b>y"]);
  assert.ok(!lane.push({ from: "c", stitch: "y", body: "", n: 9 }), "nobody overtakes one that is being tried");
  lane.settle(
    probes,
    probes.filter(({ stitch }) => stitch === "y"),
  );
  assert.deepEqual(shown(lane.aside), ["b>y", "c>y"]);
  assert.deepEqual(shown(lane.next()), ["a>x", "b>x"]);
  assert.deepEqual(shown(lane.next()), ["a>"]);
  assert.deepEqual(shown(lane.takeOut(({ from }) => from === "b")), ["b>y"]);
  assert.ok(lane.isFull("y"));
  lane.takeOut(() => true);
  assert.ok(!lane.isFull("y"), "nothing is there to try");
  assert.ok(lane.isEmpty);
});

test("what waited only behind what is taken out may go", () => {
  const lane = laneOf("a>x");
  lane.settle([], lane.next());
  for (const each of parcels("a>", "a>y")) assert.ok(!lane.push(each));
  assert.deepEqual(shown(lane.probes()), ["a>x"]);
  assert.deepEqual(shown(lane.takeOut(({ stitch }) => stitch === "z")), []);
  lane.settle([], parcels("a>x"));
  lane.takeOut(({ stitch }) => stitch === "x");
  assert.deepEqual([shown(lane.aside), shown(lane.next()), shown(lane.next())], [[], ["a>"], ["a>y"]]);
});

test("a batch that may have been stored or not is the next again", () => {
  const lane = laneOf("a>x", "a>", "b>x");
  lane.putBack(lane.next());
  assert.deepEqual(shown(lane.takeOut(() => true)), ["a>x", "a>", "b>x"]);
});

const parcel = fc.record({ from: fc.constantFrom("a", "b", "c"), stitch: fc.constantFrom("", "", "x", "y", "z") });

test("whatever finds no room, and whenever: nothing is lost, and a sender's order stays where it matters", () => {
  fc.assert(
    fc.property(fc.array(parcel, { maxLength: 60 }), fc.infiniteStream(fc.nat(9)), (all, chance) => {
      const lane = new Lane<Numbered>();
      const waiting = all.map((each, n): Numbered => ({ ...each, body: "", n }));
      const stored: Numbered[] = [];
      const chances = chance[Symbol.iterator]();
      const draw = (): number => Number(chances.next().value);
      for (let rounds = 0; waiting.length > 0 || !lane.isEmpty; rounds++) {
        for (const each of waiting.splice(0, draw())) lane.push(each);
        const probes = draw() < 3 ? lane.probes() : [];
        const batch = probes.length > 0 ? probes : lane.next();
        // As the script does: once one is refused, so are all later ones for the same stitch. In the end there is room.
        const full = new Set(rounds > 500 ? [] : ["", "x", "y", "z"].filter(() => draw() < 4));
        const from = draw();
        const refused = batch.filter(({ stitch }, index) => index >= from && full.has(stitch));
        stored.push(...batch.filter((each) => !refused.includes(each)));
        lane.settle(batch, refused);
      }
      assert.equal(stored.length, all.length);
      for (const [index, later] of stored.entries()) {
        for (const earlier of stored.slice(0, index)) {
          const matters =
            earlier.from === later.from &&
            (earlier.stitch === later.stitch || earlier.stitch === "" || later.stitch === "");
          assert.ok(!matters || earlier.n < later.n, `${shown([earlier, later]).join(" was overtaken by ")}`);
        }
      }
    }),
    { numRuns: 500 },
  );
});
