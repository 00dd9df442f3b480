import assert from "node:assert/strict";
import { test } from "node:test";
import { deadLetter, type Message, readMessage } from "../../../src/domain/message.ts";

const MESSAGE: Message = {
  id: "0b6d3c4e-8a5e-4f1c-9f0e-1f2d3c4b5a69",
  from: "n2:a",
  to: { stitch: "b" },
  channel: "",
  data: "",
  ref: null,
  re: null,
  receipt: null,
  hops: 0,
  sentAtMs: null,
};
const LETTER = { messageId: "m", from: "n2:a", to: "n1:b", channel: "", data: "", tries: 0, atMs: 0, reason: "" };

test("reads a message from a node or the API unchanged", () => {
  for (const more of [
    {},
    { from: "api:0b6d3c4e8a5e4f1c9f0e1f2d3c4b5a69", id: "0b6d3c4e8a5e4f1c9f0e1f2d3c4b5a69" },
    { id: `${MESSAGE.id}.r.r`, re: 3 },
    { to: { stitches: ["b", "c"] }, channel: "a channel of any name".repeat(20) },
    { to: { group: "Shop.orders.1" }, bare: true },
  ])
    assert.deepEqual(readMessage(JSON.stringify({ ...MESSAGE, ...more })), { message: { ...MESSAGE, ...more } });
});

for (const [what, more, says] of [
  ["a channel of the system's", { channel: "_exit" }, /^channel .*the system's/],
  ["an empty id", { id: "" }, /^id is not the id of a message/],
  ["an id that would break a line", { id: "m\nend" }, /^id /],
  ["a sender without a node", { from: "a" }, /^from is neither/],
  ["no sender", { from: "" }, /^from /],
  ["a sender that no node can have", { from: "N2:a" }, /^from /],
  ["a client without a request", { from: "api:" }, /^from /],
  ["a recipient that is none", { to: { stitch: "../b" } }, /^to/],
  ["recipients of which one is none", { to: { stitches: ["b", ""] } }, /^to/],
  ["a group that is none", { to: { group: "a..b" } }, /^to/],
  ["fewer than no hops", { hops: -9e9 }, /^hops /],
] as const)
  test(`refuses a message with ${what}, and says why`, () => {
    const read = readMessage(JSON.stringify({ ...MESSAGE, ...more }));
    assert.match("wrong" in read ? read.wrong : "", says);
  });

test("refuses what is not JSON, and does not quote it", () => {
  for (const text of ["", "{", "null", "[]", '"hunter2"']) {
    const read = readMessage(text);
    assert.match("wrong" in read ? read.wrong : "", /^it .{5}/);
    assert.doesNotMatch(JSON.stringify(read), /hunter2/);
  }
});

test("refuses a dead letter that no message can have become", () => {
  const letter = { ...LETTER, code: "inbox_full" };
  assert.ok(deadLetter.safeParse(letter).success);
  for (const more of [{ channel: "_exit" }, { from: "n2" }, { messageId: "" }])
    assert.ok(!deadLetter.safeParse({ ...letter, ...more }).success, JSON.stringify(more));
});
