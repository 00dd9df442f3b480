import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { MAX_TRIES, type Message } from "../../../src/domain/message.ts";
import type { Delivered } from "../../../workers/node/protocol/adaptor.ts";
import { type DeliveryEnd, DeliveryQueue } from "../../../workers/node/messages/delivery-queue.ts";

const ACK_MS = 10_000;
/** Longer than all tries of a message, and the waits between them. */
const ALL_TRIES_MS = 60_000;
const ACKED: Delivered = { kind: "acked" };
const FAILED: Delivered = { kind: "failed", reason: "said so" };

type Attempt = { readonly name: string; readonly answer: (how: Delivered) => void };

/** A queue, and the stitch that receives from it. The stitch answers when the test tells it to. */
class Stitch {
  /** Each delivery of a message, in order. */
  readonly attempts: Attempt[] = [];
  /** Each message that has ended, in order. */
  readonly ended: { readonly name: string; readonly how: DeliveryEnd }[] = [];
  readonly queue: DeliveryQueue;
  runs = true;
  heldMs = 0;
  readonly #t: TestContext;

  constructor(t: TestContext) {
    this.#t = t;
    t.mock.timers.enable({ apis: ["setTimeout"] });
    this.queue = new DeliveryQueue({
      deliver: ({ id }) => {
        if (!this.runs) return null;
        const { promise, resolve } = Promise.withResolvers<Delivered>();
        this.attempts.push({ name: id, answer: resolve });
        return promise;
      },
      heldMs: () => this.heldMs,
    });
  }

  /** Puts messages into the queue. `a1` is the first message of sender `a`; `re:a1` is a reply from `a`. */
  add(...names: string[]): void {
    for (const name of names) {
      const [first = "", second] = name.split(":");
      const message: Message = {
        id: name,
        from: `n1:${(second ?? first).replace(/\d+$/, "")}`,
        to: { stitch: "x" },
        channel: "",
        data: "",
        ref: null,
        re: second === undefined ? null : 1,
        receipt: null,
        hops: 0,
        sentAtMs: 0,
      };
      this.queue.add({ message, tries: 0, end: (how) => this.ended.push({ name, how }) });
    }
  }

  get handed(): string[] {
    return this.attempts.map(({ name }) => name);
  }
  get ends(): string[] {
    const named = (how: DeliveryEnd) =>
      how.kind === "dead" ? how.code : how.kind === "delivered" ? how.by.kind : how.kind;
    return this.ended.map(({ name, how }) => `${name} ${named(how)}`);
  }

  /** Answers the latest delivery of a message, or the delivery with this number, counted from 1. */
  async answer(name: string, how: Delivered, attempt?: number): Promise<void> {
    const its = this.attempts.filter((each) => each.name === name);
    (its.at(attempt === undefined ? -1 : attempt - 1) ?? assert.fail(`${name} was not handed over`)).answer(how);
    await settled();
  }

  async pass(ms: number): Promise<void> {
    this.#t.mock.timers.tick(ms);
    await settled();
  }
}

/** Resolves when all that follows without a timer has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("delivers one message of a sender at a time, in order, and messages of several senders at once", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2", "b1", "b2", "c1");
  assert.deepEqual(stitch.handed, ["a1", "b1", "c1"]);
  await stitch.answer("b1", ACKED);
  assert.deepEqual(stitch.handed, ["a1", "b1", "c1", "b2"]);
  await stitch.answer("a1", ACKED);
  await stitch.answer("a2", ACKED);
  await stitch.answer("b2", ACKED);
  assert.equal(stitch.queue.isEmpty, false);
  await stitch.answer("c1", ACKED);
  assert.equal(stitch.queue.isEmpty, true);
  assert.deepEqual(stitch.ends, ["b1 acked", "a1 acked", "a2 acked", "b2 acked", "c1 acked"]);
});

test("retries a failed delivery after 200, 400, 800 and 1600 ms, then ends it as dead and goes on", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2");
  for (const [index, ms] of [200, 400, 800, 1600].entries()) {
    await stitch.answer("a1", FAILED);
    await stitch.pass(ms - 1);
    assert.equal(stitch.handed.length, index + 1, `not before ${ms} ms`);
    await stitch.pass(1);
    assert.equal(stitch.handed.length, index + 2, `after ${ms} ms`);
  }
  await stitch.answer("a1", FAILED);
  assert.deepEqual(stitch.handed, [...Array.from({ length: MAX_TRIES }, () => "a1"), "a2"]);
  assert.deepEqual(stitch.ended, [{ name: "a1", how: { kind: "dead", code: "stitch_failed", reason: "said so" } }]);
});

test("retries a message that is not acknowledged within 10 s, up to five deliveries in all", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2");
  await stitch.pass(ACK_MS - 1);
  assert.deepEqual(stitch.handed, ["a1"]);
  await stitch.pass(1);
  await stitch.pass(200);
  assert.deepEqual(stitch.handed, ["a1", "a1"]);
  for (const ms of [400, 800, 1600]) {
    await stitch.pass(ACK_MS);
    await stitch.pass(ms);
  }
  assert.equal(stitch.handed.length, MAX_TRIES);
  await stitch.pass(ACK_MS);
  assert.deepEqual(stitch.ends, ["a1 not_acknowledged"]);
  assert.equal(stitch.handed.at(-1), "a2");
});

test("a late acknowledgement counts, whichever delivery it is for, and it counts once", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2", "a3");
  await stitch.pass(ACK_MS);
  await stitch.pass(200);
  assert.deepEqual(stitch.handed, ["a1", "a1"]);
  await stitch.answer("a1", ACKED, 1);
  assert.deepEqual(stitch.ends, ["a1 acked"]);
  assert.deepEqual(stitch.handed, ["a1", "a1", "a2"]);
  await stitch.answer("a1", ACKED, 2);
  assert.deepEqual(stitch.ends, ["a1 acked"], "the second one means nothing");
  await stitch.pass(ACK_MS);
  await stitch.answer("a2", ACKED, 1);
  assert.deepEqual(stitch.ends, ["a1 acked", "a2 acked"], "while it waits to be delivered again, too");
  assert.equal(stitch.handed.at(-1), "a3");
  await stitch.pass(200);
  assert.deepEqual(stitch.handed, ["a1", "a1", "a2", "a3"], "and it is not delivered again then");
});

test("a last delivery that nobody answers has no effect on the next message", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2");
  for (const ms of [200, 400, 800, 1600]) {
    await stitch.pass(ACK_MS);
    await stitch.pass(ms);
  }
  assert.equal(stitch.handed.length, MAX_TRIES);
  await stitch.answer("a1", ACKED, 1);
  await stitch.pass(ACK_MS - 1);
  await stitch.answer("a2", ACKED);
  await stitch.pass(1);
  assert.deepEqual(stitch.ends, ["a1 acked", "a2 acked"]);
  stitch.add("a3");
  await stitch.answer("a3", ACKED);
  assert.deepEqual(stitch.ends, ["a1 acked", "a2 acked", "a3 acked"]);
});

test("a late failure of a delivery that was given up has no effect", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1");
  await stitch.pass(ACK_MS);
  await stitch.answer("a1", FAILED, 1);
  await stitch.pass(200);
  await stitch.answer("a1", FAILED, 1);
  await stitch.pass(5000);
  assert.deepEqual(stitch.handed, ["a1", "a1"]);
  await stitch.answer("a1", ACKED, 2);
  assert.deepEqual(stitch.ends, ["a1 acked"]);
});

test("delivers 64 messages at once; a message without an answer gives its place up; senders take turns", async (t) => {
  const stitch = new Stitch(t);
  const senders = Array.from({ length: 66 }, (_, index) => `s${index}x`);
  stitch.add(...senders.flatMap((sender) => [`${sender}1`, `${sender}2`]));
  assert.equal(stitch.handed.length, 64);
  await stitch.answer("s0x1", ACKED);
  assert.deepEqual(stitch.handed.slice(64), ["s64x1"], "first those who have had no turn yet");
  await stitch.answer("s64x1", ACKED);
  assert.deepEqual(stitch.handed.slice(65), ["s65x1"]);
  await stitch.answer("s65x1", ACKED);
  assert.deepEqual(stitch.handed.slice(66), ["s0x2"]);
  await stitch.pass(ACK_MS);
  assert.deepEqual(
    stitch.handed.slice(67),
    ["s64x2", "s65x2"],
    "their places are free, and they wait for their next try",
  );
});

test("a reply waits neither for its sender's other messages nor for a place; replies keep their order", async (t) => {
  const stitch = new Stitch(t);
  stitch.add(...Array.from({ length: 64 }, (_, index) => `s${index}x1`), "a1");
  assert.equal(stitch.handed.length, 64);
  stitch.add("re:s0x1", "re:a1", "re:a2");
  assert.deepEqual(stitch.handed.slice(64), ["re:s0x1", "re:a1"]);
  await stitch.answer("re:a1", ACKED);
  assert.deepEqual(stitch.handed.slice(66), ["re:a2"]);
});

test("replies take no places", async (t) => {
  const stitch = new Stitch(t);
  stitch.add(...Array.from({ length: 64 }, (_, index) => `re:s${index}x1`), "a1");
  assert.equal(stitch.handed.at(-1), "a1");
});

test("keeps the messages of a stitch that does not run, and delivers them in order when it runs", async (t) => {
  const stitch = new Stitch(t);
  stitch.runs = false;
  stitch.add("a1", "a2", "b1");
  await stitch.pass(ALL_TRIES_MS);
  assert.deepEqual(stitch.handed, []);
  stitch.runs = true;
  stitch.queue.wake();
  stitch.queue.wake();
  assert.deepEqual(stitch.handed, ["a1", "b1"]);
  stitch.runs = false;
  await stitch.answer("a1", FAILED);
  await stitch.answer("b1", ACKED);
  await stitch.pass(ALL_TRIES_MS);
  assert.deepEqual(stitch.handed, ["a1", "b1"]);
  stitch.runs = true;
  stitch.queue.wake();
  await stitch.answer("a1", ACKED);
  await stitch.answer("a2", ACKED);
  assert.deepEqual(stitch.ends, ["b1 acked", "a1 acked", "a2 acked"]);
});

test("an acknowledgement ends a message that waits for the stitch to run again", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "b1");
  await stitch.pass(ACK_MS);
  stitch.runs = false;
  await stitch.pass(200);
  await stitch.answer("a1", ACKED, 1);
  stitch.runs = true;
  stitch.queue.wake();
  assert.deepEqual(stitch.handed, ["a1", "b1", "b1"]);
  assert.deepEqual(stitch.ends, ["a1 acked"]);
});

test("while the node leaves the stitch's output unread, the time for an answer stands still", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1");
  stitch.heldMs = 7000;
  await stitch.pass(ACK_MS);
  await stitch.pass(6999);
  stitch.heldMs = 7500;
  await stitch.pass(1);
  await stitch.pass(499);
  await stitch.pass(200);
  assert.deepEqual(stitch.handed, ["a1"]);
  await stitch.pass(1);
  await stitch.pass(200);
  assert.deepEqual(stitch.handed, ["a1", "a1"]);
});

test("close hands back what waits; a later answer has no effect", async (t) => {
  const stitch = new Stitch(t);
  stitch.add("a1", "a2", "b1", "re:a1");
  await stitch.answer("b1", FAILED);
  const left = stitch.queue.close();
  assert.deepEqual(
    left.map(({ message }) => message.id).sort((a, b) => a.localeCompare(b)),
    ["a1", "a2", "b1", "re:a1"],
  );
  await stitch.answer("a1", ACKED);
  await stitch.answer("re:a1", FAILED);
  await stitch.pass(ALL_TRIES_MS);
  stitch.queue.wake();
  assert.deepEqual(stitch.handed, ["a1", "b1", "re:a1"]);
  assert.deepEqual(stitch.ends, []);
  assert.equal(stitch.queue.isEmpty, true);
});

/** What may happen to a queue. Numbers choose among what exists at that time. */
const happening = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("add" as const), sender: fc.nat(3), isReply: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("answer" as const), which: fc.nat(1000), acks: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(1, 199, 200, 801, 9999, 10_000) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("runs" as const), runs: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("held" as const), ms: fc.nat(20_000) }) },
);

test("whatever is answered, and whenever: keeps the order, one message of a row at a time, and ends each once", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { maxLength: 60 }), async (happenings) => {
      const stitch = new Stitch(t);
      const added: string[] = [];
      try {
        for (const each of happenings) {
          if (each.kind === "add") {
            const name = `${each.isReply ? "re:" : ""}${"abcd"[each.sender]}${added.length}`;
            added.push(name);
            stitch.add(name);
          } else if (each.kind === "answer") {
            stitch.attempts.at(each.which % Math.max(1, stitch.attempts.length))?.answer(each.acks ? ACKED : FAILED);
          } else if (each.kind === "pass") t.mock.timers.tick(each.ms);
          else if (each.kind === "held") stitch.heldMs += each.ms;
          else {
            stitch.runs = each.runs;
            stitch.queue.wake();
          }
          await settled();
          checkRows(stitch, added);
        }
        // Left alone, every message comes to its end.
        stitch.runs = true;
        stitch.queue.wake();
        for (let rounds = 0; !stitch.queue.isEmpty && rounds < 100 * MAX_TRIES; rounds++) await stitch.pass(ACK_MS);
        checkRows(stitch, added);
        assert.deepEqual(sorted(stitch.ended.map(({ name }) => name)), sorted(added));
      } finally {
        t.mock.timers.reset();
      }
    }),
    { numRuns: 300 },
  );
});

const sorted = (names: readonly string[]): string[] => [...names].sort((a, b) => a.localeCompare(b));

/** For each row: deliveries follow the order of the messages, none before the earlier ones have ended, and none too often. */
function checkRows(stitch: Stitch, added: readonly string[]): void {
  const rowOf = (name: string) => name.replace(/\d+$/, "");
  const ends = stitch.ended.map(({ name }) => name);
  assert.equal(new Set(ends).size, ends.length, "each ends once");
  for (const row of new Set(added.map(rowOf))) {
    const its = added.filter((name) => rowOf(name) === row);
    const handed = stitch.handed.filter((name) => rowOf(name) === row);
    const first = [...new Set(handed)];
    assert.deepEqual(first, its.slice(0, first.length), "in order");
    assert.deepEqual(
      handed,
      [...handed].sort((a, b) => its.indexOf(a) - its.indexOf(b)),
      "never back",
    );
    const open = first.filter((name) => !ends.includes(name));
    assert.ok(open.length <= 1, `one at a time: ${open.join(" ")}`);
    assert.deepEqual(
      ends.filter((name) => rowOf(name) === row),
      its.slice(0, first.length - open.length),
    );
    for (const name of first) assert.ok(handed.filter((each) => each === name).length <= MAX_TRIES);
  }
}
