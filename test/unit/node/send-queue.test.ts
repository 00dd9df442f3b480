import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SendQueue, type QueuedMessage } from "../../../workers/node/sending/send-queue.ts";

type Numbered = QueuedMessage & { readonly n: number };

/** `a>x` goes from `a` to the stitch `x`; `a>` goes to several stitches. */
const messages = (...texts: string[]): Numbered[] =>
  texts.map((text, n) => {
    const [from = "", stitch = ""] = text.split(">");
    return { from, stitch, body: "", n };
  });
const shown = (some: readonly QueuedMessage[]): string[] => some.map(({ from, stitch }) => `${from}>${stitch}`);

function laneOf(...texts: string[]): SendQueue<Numbered> {
  const queue = new SendQueue<Numbered>();
  for (const message of messages(...texts)) queue.push(message);
  return queue;
}

test("takes as many messages as may go at once, and at least one", () => {
  const queue = laneOf(...Array.from({ length: 101 }, (_, n) => `a>s${n}`));
  assert.equal(queue.next().length, 100);
  assert.equal(queue.next().length, 1);
  assert.ok(queue.isEmpty);
  const large = "x".repeat(3 * 1024 * 1024);
  for (const message of messages("a>x", "a>y", "a>z")) queue.push({ ...message, body: large });
  assert.deepEqual(shown(queue.next()), ["a>x"]);
  queue.push({ from: "a", stitch: "w", body: "", n: 0 });
  assert.deepEqual(shown(queue.next()), ["a>y"]);
  assert.deepEqual(shown(queue.next()), ["a>z", "a>w"]);
});

test("a sender's messages to several stitches go in another batch than its messages to one", () => {
  const queue = laneOf("a>x", "b>", "a>", "a>y");
  assert.deepEqual(shown(queue.next()), ["a>x", "b>"]);
  assert.deepEqual(shown(queue.next()), ["a>"]);
  assert.deepEqual(shown(queue.next()), ["a>y"]);
});

test("a message without room waits aside, with those that must not overtake it; all others go on", () => {
  const queue = laneOf("a>x", "b>y", "a>x", "b>x", "a>y", "a>", "a>z", "b>", "c>z", "c>x");
  const batch = queue.next();
  assert.deepEqual(shown(batch), ["a>x", "b>y", "a>x", "b>x", "a>y"]);
  queue.finish(
    batch,
    batch.filter(({ stitch, from }) => from === "a" && stitch === "x"),
  );
  assert.deepEqual([queue.isFull("x"), queue.isFull("y"), queue.isFull("")], [true, false, false]);
  assert.deepEqual(shown(queue.aside), ["a>x", "a>x", "a>", "a>z", "c>x"]);
  assert.deepEqual(shown(queue.next()), ["b>", "c>z"]);
  assert.deepEqual(
    messages("d>y", "d>x", "d>z", "a>y").map((each) => queue.push(each)),
    [true, false, true, false],
  );
  assert.deepEqual(shown(queue.next()), ["d>y", "d>z"]);
});

test("tries one message for each full stitch again; when it has found room, the others follow", () => {
  const queue = laneOf("a>x", "a>x", "b>x", "b>y", "a>");
  const batch = queue.next();
  queue.finish(batch, batch);
  const probes = queue.probes();
  assert.deepEqual(shown(probes), ["a>x", "b>y"]);
  assert.ok(!queue.push({ from: "c", stitch: "y", body: "", n: 9 }), "nobody overtakes one that is being tried");
  queue.finish(
    probes,
    probes.filter(({ stitch }) => stitch === "y"),
  );
  assert.deepEqual(shown(queue.aside), ["b>y", "c>y"]);
  assert.deepEqual(shown(queue.next()), ["a>x", "b>x"]);
  assert.deepEqual(shown(queue.next()), ["a>"]);
  assert.deepEqual(shown(queue.takeOut(({ from }) => from === "b")), ["b>y"]);
  assert.ok(queue.isFull("y"));
  queue.takeOut(() => true);
  assert.ok(!queue.isFull("y"), "nothing is there to try");
  assert.ok(queue.isEmpty);
});

test("a message that waited only behind one that is taken out may go", () => {
  const queue = laneOf("a>x");
  queue.finish([], queue.next());
  for (const each of messages("a>", "a>y")) assert.ok(!queue.push(each));
  assert.deepEqual(shown(queue.probes()), ["a>x"]);
  assert.deepEqual(shown(queue.takeOut(({ stitch }) => stitch === "z")), []);
  queue.finish([], messages("a>x"));
  queue.takeOut(({ stitch }) => stitch === "x");
  assert.deepEqual([shown(queue.aside), shown(queue.next()), shown(queue.next())], [[], ["a>"], ["a>y"]]);
});

test("a batch that may or may not have been stored is the next one again", () => {
  const queue = laneOf("a>x", "a>", "b>x");
  queue.putBack(queue.next());
  assert.deepEqual(shown(queue.takeOut(() => true)), ["a>x", "a>", "b>x"]);
});

const message = fc.record({ from: fc.constantFrom("a", "b", "c"), stitch: fc.constantFrom("", "", "x", "y", "z") });

test("whatever finds no room, and whenever: loses nothing, and keeps a sender's order where it matters", () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 60 }), fc.infiniteStream(fc.nat(9)), (all, chance) => {
      const queue = new SendQueue<Numbered>();
      const waiting = all.map((each, n): Numbered => ({ ...each, body: "", n }));
      const stored: Numbered[] = [];
      const chances = chance[Symbol.iterator]();
      const draw = (): number => Number(chances.next().value);
      for (let rounds = 0; waiting.length > 0 || !queue.isEmpty; rounds++) {
        for (const each of waiting.splice(0, draw())) queue.push(each);
        const probes = draw() < 3 ? queue.probes() : [];
        const batch = probes.length > 0 ? probes : queue.next();
        // Like the script: once one message is refused, so are all later ones for the same stitch. In the end there is room.
        const full = new Set(rounds > 500 ? [] : ["", "x", "y", "z"].filter(() => draw() < 4));
        const from = draw();
        const refused = batch.filter(({ stitch }, index) => index >= from && full.has(stitch));
        stored.push(...batch.filter((each) => !refused.includes(each)));
        queue.finish(batch, refused);
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
