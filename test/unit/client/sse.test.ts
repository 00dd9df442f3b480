import assert from "node:assert/strict";
import { test } from "node:test";
import { type ServerSentEvent, serverSentEvents } from "../../../src/client/sse.ts";

const STREAM =
  ': hello\n\nid: 1-0\nevent: a\ndata: {"x":1}\n\ndata:two\r\ndata: lines\r\n\r\nid: 3\rdata: ü\r\revent: none\n\ndata: cut off';
const EVENTS: ServerSentEvent[] = [
  { id: "1-0", event: "a", data: '{"x":1}' },
  { id: null, event: "message", data: "two\nlines" },
  { id: "3", event: "message", data: "ü" },
];

function streamOf(chunks: readonly Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start: (controller) => {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

async function read(chunks: Uint8Array[]): Promise<ServerSentEvent[]> {
  const events: ServerSentEvent[] = [];
  for await (const event of serverSentEvents(streamOf(chunks), () => undefined)) events.push(event);
  return events;
}

test("reads comments, all three kinds of line ends and several data lines; drops an event that is cut off", async () => {
  assert.deepEqual(await read([new TextEncoder().encode(STREAM)]), EVENTS);
});

test("reads the same events wherever the bytes are cut, also inside a character and between \\r and \\n", async () => {
  const bytes = new TextEncoder().encode(STREAM);
  for (let at = 1; at < bytes.length; at++) {
    assert.deepEqual(await read([bytes.slice(0, at), bytes.slice(at)]), EVENTS, `cut at ${at}`);
  }
  assert.deepEqual(await read([...bytes].map((byte) => Uint8Array.of(byte))), EVENTS);
});

test("refuses an event without an end; a reader that stops early closes the stream", async () => {
  const megabyte = new TextEncoder().encode("x".repeat(1024 * 1024));
  await assert.rejects(read([megabyte, megabyte, megabyte, megabyte, megabyte]), /larger than/);
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
    cancel: () => {
      cancelled = true;
    },
  });
  for await (const event of serverSentEvents(body, () => undefined)) {
    assert.equal(event.data, "x");
    break;
  }
  assert.equal(cancelled, true);
});
