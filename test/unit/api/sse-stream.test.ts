import assert from "node:assert/strict";
import { test } from "node:test";
import { frame, sseStream } from "../../../src/api/sse-stream.ts";

const options = (
  over: { farewell?: string | null; ended?: AbortController; onError?: (error: unknown) => void } = {},
) => ({
  backlogBytes: 1000,
  farewell: null,
  ended: new AbortController(),
  onError: (error: unknown) => assert.fail(String(error)),
  ...over,
});

test("a slow reader slows its source down; nothing is left out", async () => {
  let made = 0;
  async function* source() {
    for (; made < 200; made++) yield [frame("line", `"${made} ${"x".repeat(90)}"`, null)];
  }
  const stream = sseStream(source(), options());
  const reader = stream.getReader();
  let text = "";
  let furthest = 0;
  for (let turn = 0; ; turn++) {
    // Everything that the source can make without a reader is made by now.
    await new Promise((resolve) => setImmediate(resolve));
    const { done, value } = await reader.read();
    if (done) break;
    text += new TextDecoder().decode(value);
    furthest = Math.max(furthest, made - turn);
  }
  assert.ok(furthest < 30, `${furthest} were made ahead of the reader`);
  assert.equal([...text.matchAll(/^event: line$/gm)].length, 200);
  assert.ok(text.startsWith(": still here\n\n") && text.includes('data: "199 '));
});

test("a reader that cancels while the stream waits for it ends the source", async () => {
  const ended = new AbortController();
  const released = Promise.withResolvers<void>();
  async function* source() {
    try {
      for (;;) yield [frame("line", "x".repeat(600), "1")];
    } finally {
      released.resolve();
    }
  }
  const stream = sseStream(source(), options({ ended }));
  await stream.cancel();
  await released.promise;
  assert.equal(ended.signal.aborted, true);
});

test("an abort from outside closes the stream even if its reader reads nothing", async () => {
  const ended = new AbortController();
  const released = Promise.withResolvers<void>();
  async function* source() {
    try {
      for (;;) yield [frame("line", "x".repeat(600), null)];
    } finally {
      released.resolve();
    }
  }
  const stream = sseStream(source(), options({ ended }));
  await new Promise((resolve) => setImmediate(resolve));
  ended.abort();
  await released.promise;
  assert.match(await new Response(stream).text(), /^: still here\n\nevent: line\n/);
});

test("an error of the source is reported, and the stream ends after what came before it", async () => {
  const errors: unknown[] = [];
  async function* source() {
    yield [frame("line", "{}", "n1:1.2")];
    throw new Error("broken");
  }
  const text = await new Response(sseStream(source(), options({ onError: (error) => errors.push(error) }))).text();
  assert.equal(text, ": still here\n\nid: n1:1.2\nevent: line\ndata: {}\n\n");
  assert.match(String(errors), /broken/);
});
