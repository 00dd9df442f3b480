import assert from "node:assert/strict";
import { test } from "node:test";
import { Backlog, type Kept } from "../../../workers/node/sending/backlog.ts";

const kept = (from: string, recipient: string, characters = 1): Kept => ({
  from,
  recipient,
  body: "x".repeat(characters),
});
/** How many of these messages get a place. */
const places = (backlog: Backlog, all: readonly Kept[]): number => all.filter((each) => backlog.add(each)).length;
const many = (count: number, make: (n: number) => Kept) => Array.from({ length: count }, (_, n) => make(n));

test("a sender has places for 100 messages to one recipient; other senders and recipients have their own", () => {
  const backlog = new Backlog();
  const all = many(101, () => kept("n1:a", "n2:x"));
  assert.equal(places(backlog, all), 100);
  assert.equal(places(backlog, [kept("n1:b", "n2:x"), kept("n1:a", "n2:y")]), 2);
  assert.ok(backlog.has({ from: "n1:a", recipient: "n2:x" }));
  for (const each of all.slice(0, 100)) backlog.remove(each);
  assert.ok(!backlog.has({ from: "n1:a", recipient: "n2:x" }));
  assert.equal(places(backlog, all), 100, "what was taken out leaves its place");
});

test("a sender has places for a MiB to one recipient; one larger message takes them all", () => {
  const backlog = new Backlog();
  const half = 512 * 1024;
  assert.equal(places(backlog, [kept("a", "x", half), kept("a", "x", half), kept("a", "x")]), 2);
  assert.equal(places(backlog, [kept("b", "x", 5 * half), kept("b", "x")]), 1);
});

test("what waits for one recipient is bounded over all senders, and so is all that waits", () => {
  const backlog = new Backlog();
  assert.equal(
    places(
      backlog,
      many(1100, (n) => kept(`s${n}`, "x")),
    ),
    1000,
  );
  assert.equal(
    places(
      backlog,
      many(9500, (n) => kept("a", `y${n}`)),
    ),
    9000,
  );
});
