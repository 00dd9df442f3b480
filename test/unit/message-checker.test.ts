// Tests the checker of test/fault/messages.test.ts: each history here breaks the promise in one way.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { STITCH_BYTES, STITCH_MESSAGES } from "../../src/redis/inbox/put-messages.ts";
import { duplicatesOf, type History, problemsOf, type Stay, type Stored } from "../support/message-checker.ts";

const FOR_EVER = Number.POSITIVE_INFINITY;

/** The n-th message from n1:from to n2:to. It is in the inbox from n to n + 1. */
const stored = (number: number, more: Partial<Stored> = {}): Stored => ({
  node: "n2",
  messageId: `m${number}`,
  label: `n1:from ${number}`,
  sender: "n1:from",
  number,
  to: ["to"],
  share: "to",
  bytes: 100,
  hops: 0,
  storedAtMs: number,
  doneAtMs: number + 1,
  ...more,
});
const arrived = (number: number, recipient = "n2:to") => ({ recipient, label: `n1:from ${number}` });
const letter = (number: number, to = "n2:to") => ({
  messageId: `m${number}`,
  label: `n1:from ${number}`,
  to,
  code: "no_recipient",
  reason: "gone",
});
const stay = (stitch: string, fromMs = 0, untilMs = FOR_EVER): Stay => ({
  stitch,
  group: "a.b.1",
  fromMs,
  untilMs,
  moved: false,
});
const said = (number: number, to: { stitch: string } | { group: string } = { stitch: "to" }) => ({
  sender: "n1:from",
  number,
  life: "1",
  to,
  atMs: number - 1,
});

function problems(history: Partial<History>): string[] {
  const nothing = {
    stored: [],
    received: [],
    letters: [],
    stays: [],
    visits: [],
    spoken: [],
    accepted: [],
    rejected: [],
  };
  return problemsOf({ ...nothing, stays: [stay("n2:to"), stay("n1:from")], ...history });
}

describe("the checker of messages", () => {
  it("accepts messages that arrived in order, arrived twice or became a dead letter", () => {
    const history = {
      stored: [stored(1), stored(2), stored(3)],
      received: [arrived(1), arrived(2), arrived(1), arrived(2)],
      letters: [letter(3)],
      spoken: [said(1), said(2), said(3), said(4)],
      accepted: [arrived(1), { label: "n1:from 2", recipient: null }],
      rejected: [{ label: "client 7", node: null }],
    };
    assert.deepEqual(problems(history), []);
    assert.deepEqual(duplicatesOf(history), [
      { ...arrived(1), times: 2 },
      { ...arrived(2), times: 2 },
    ]);
  });

  it("finds a message that was lost, even for only one of its recipients", () => {
    assert.deepEqual(problems({ stored: [stored(1)] }), ["lost: n1:from 1 > n2:to"]);
    const toTwo = stored(1, { to: ["to", "other"], share: "*" });
    assert.deepEqual(problems({ stored: [toTwo], received: [arrived(1)] }), ["lost: n1:from 1 > n2:other"]);
    assert.deepEqual(problems({ stored: [toTwo], received: [arrived(1)], letters: [letter(1, "n2:to")] }), [
      "lost: n1:from 1 > n2:other",
    ]);
  });

  it("finds a group's message that a member did not get; ignores members that came or went meanwhile", () => {
    const toGroup = { stored: [stored(5, { to: { group: "a.b" }, share: "*" })] };
    const lost = ["lost: n1:from 5 > n2:to"];
    assert.deepEqual(problems({ ...toGroup, stays: [stay("n2:to"), stay("n3:else")] }), lost);
    assert.deepEqual(problems({ ...toGroup, stays: [stay("n2:to", 0, 6)] }), lost);
    assert.deepEqual(problems({ ...toGroup, stays: [stay("n2:to", 0, 5.5), stay("n2:late", 5.5)] }), []);
    assert.deepEqual(problems({ ...toGroup, stays: [{ ...stay("n2:to"), group: "a.c.1" }] }), []);
    const own = stored(5, { node: "n1", to: { group: "a.b" }, share: "*" });
    assert.deepEqual(problems({ stored: [own], stays: [stay("n1:from")] }), []);
  });

  it("looks for the message of a moved stitch wherever the stitch is now, in whatever order it came", () => {
    const toGroup = stored(5, { to: { group: "a.b" }, share: "*" });
    const moved = { stays: [{ ...stay("n2:to", 0, 5.5), moved: true }, stay("n3:to", 7)] };
    assert.deepEqual(problems({ ...moved, stored: [toGroup] }), ["lost: n1:from 5 > n2:to"]);
    const after = stored(5, { node: "n3", to: ["to"], hops: 1, storedAtMs: 8, doneAtMs: 9 });
    const arrivedThere = [arrived(6, "n3:to"), arrived(5, "n3:to")];
    const direct = stored(6, { node: "n3" });
    assert.deepEqual(problems({ ...moved, stored: [toGroup, after, direct], received: arrivedThere }), []);
    const dead = { ...letter(5, "n3:to"), messageId: "m5" };
    assert.deepEqual(problems({ ...moved, stored: [toGroup], letters: [dead] }), []);
    const late = { ...moved, stored: [{ ...toGroup, storedAtMs: 6 }] };
    assert.deepEqual(problems(late), [], "it may have gone where the stitch went");
  });

  it("finds a dead letter without a reason", () => {
    assert.deepEqual(problems({ stored: [stored(1)], letters: [{ ...letter(1), reason: "" }] }), [
      "no reason: m1 > n2:to",
    ]);
  });

  it("finds reordered messages of one stitch, except for a dead letter that arrives later", () => {
    const swapped = { stored: [stored(1), stored(2)], received: [arrived(2), arrived(1)] };
    assert.deepEqual(problems(swapped), ["reordered: n1:from 1 > n2:to after 2"]);
    assert.deepEqual(problems({ ...swapped, letters: [letter(1)] }), []);
    assert.deepEqual(problems({ ...swapped, letters: [letter(2)] }), ["reordered: n1:from 1 > n2:to after 2"]);
    const ofClient = swapped.stored.map((each) => ({ ...each, sender: null }));
    assert.deepEqual(problems({ ...swapped, stored: ofClient }), []);
  });

  it("finds a message that came to a stitch that it was not for", () => {
    const got = (history: Partial<History>) => problems({ ...history, received: [arrived(1), arrived(1, "n2:other")] });
    assert.deepEqual(got({ stored: [stored(1)] }), ["astray: n1:from 1 > n2:other"]);
    const toGroup = stored(1, { to: { group: "a.b" }, share: "*" });
    assert.deepEqual(got({ stored: [toGroup], stays: [stay("n2:to"), stay("n2:other")] }), []);
    const other = { ...stay("n2:other"), group: "a.c.1" };
    assert.deepEqual(got({ stored: [toGroup], stays: [stay("n2:to"), other] }), ["astray: n1:from 1 > n2:other"]);
    const { stitch, group } = stay("n2:other");
    assert.deepEqual(got({ stored: [toGroup], stays: [stay("n2:to")], visits: [{ stitch, group }] }), []);
    const received = [arrived(1, "n1:from")];
    assert.deepEqual(problems({ stored: [{ ...toGroup, node: "n1" }], received }), ["astray: n1:from 1 > n1:from"]);
    assert.deepEqual(problems({ received: [arrived(9)] }), ["astray: n1:from 9 > n2:to"]);
  });

  it("finds a message that was accepted but never stored, or rejected and yet stored", () => {
    const accepted = [arrived(1), { label: "n1:from 2", recipient: null }];
    assert.deepEqual(problems({ accepted }), [
      "accepted, never stored: n1:from 1 > n2:to",
      "accepted, never stored: n1:from 2 > anybody",
    ]);
    const history = { stored: [stored(1)], received: [arrived(1)] };
    const rejected = (node: string | null) => problems({ ...history, rejected: [{ label: "n1:from 1", node }] });
    assert.deepEqual(rejected(null), ["rejected, yet stored: n1:from 1 > anybody"]);
    assert.deepEqual(rejected("n2"), ["rejected, yet stored: n1:from 1 > n2"]);
    assert.deepEqual(rejected("n3"), []);
  });

  it("finds a message that a process wrote and its node skipped, unless its recipient may have been away", () => {
    const history = { stored: [stored(1), stored(3)], received: [arrived(1), arrived(3)] };
    const spoken = [said(1), said(2), said(3), said(4)];
    const skipped = ["skipped: n1:from 2 > n2:to"];
    assert.deepEqual(problems({ ...history, spoken }), skipped);
    assert.deepEqual(problems({ ...history, spoken, stays: [stay("n2:to", 0, 2)] }), []);
    assert.deepEqual(problems({ ...history, spoken, stays: [stay("n2:to", 2)] }), []);
    const inTwoLives = spoken.map((each) => ({ ...each, life: each.number < 3 ? "1" : "2" }));
    assert.deepEqual(problems({ ...history, spoken: inTwoLives }), []);
    const toGroup = [said(1), said(2, { group: "a" }), said(3)];
    assert.deepEqual(problems({ ...history, spoken: toGroup }), skipped);
  });

  it("accepts a message that found no room if it became a dead letter for its recipient", () => {
    const history = { stored: [stored(2)], received: [arrived(2)], spoken: [said(1), said(2)] };
    assert.deepEqual(problems(history), ["skipped: n1:from 1 > n2:to"]);
    assert.deepEqual(problems({ ...history, letters: [letter(1)] }), []);
    assert.deepEqual(problems({ ...history, letters: [letter(1, "n2:other")] }), ["skipped: n1:from 1 > n2:to"]);
  });

  it("finds a stitch with more waiting messages or bytes than its share", () => {
    const waiting = (count: number, bytes: number) => ({
      stored: Array.from({ length: count }, (_, n) => stored(n + 1, { bytes, doneAtMs: 5000 })),
      letters: Array.from({ length: count }, (_, n) => letter(n + 1)),
    });
    assert.deepEqual(problems(waiting(STITCH_MESSAGES, 100)), []);
    assert.deepEqual(problems(waiting(STITCH_MESSAGES + 1, 100)), [
      `over its share: n2:to: ${STITCH_MESSAGES + 1} messages, ${(STITCH_MESSAGES + 1) * 100} bytes`,
    ]);
    assert.deepEqual(problems(waiting(4, STITCH_BYTES / 4)), []);
    assert.deepEqual(problems(waiting(5, STITCH_BYTES / 4)), [
      `over its share: n2:to: 5 messages, ${(STITCH_BYTES / 4) * 5} bytes`,
    ]);
  });
});
