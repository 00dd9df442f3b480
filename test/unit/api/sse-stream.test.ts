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

test("a slow reader is waited for, and the source with it; nothing is left out", async () => {
  let made = 0;
  async function* source() {
    for (; made < 200; made++) yield [frame("line", `"${made} ${"x".repeat(90)}"`, null)];
  }
  const stream = sseStream(source(), options());
  const reader = stream.getReader();
  let text = "";
  let furthest = 0;
  for (let turn = 0; ; turn++) {
    // Whatever can be made without a reader is made by now.
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

test("a reader that leaves while it is waited for ends the source", async () => {
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

test("an end from outside closes the stream, though its reader takes nothing", async () => {
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

test("a source that fails is told of, and the stream ends with what came before", async () => {
  const errors: unknown[] = [];
  async function* source() {
    yield [frame("line", "{}", "n1:1.2")];
    throw new Error("broken");
  }
  const text = await new Response(sseStream(source(), options({ onError: (error) => errors.push(error) }))).text();
  assert.equal(text, ": still here\n\nid: n1:1.2\nevent: line\ndata: {}\n\n");
  assert.match(String(errors), /broken/);
});
