import assert from "node:assert/strict";
import { test } from "node:test";
import { eventStream } from "../../../src/api/event-stream.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import type { EventResource } from "../../../src/contract/event.ts";

const event = (n: number, size = 0): EventResource => ({
  id: `${n}-0`,
  type: "job.ended",
  at: new Date(n).toISOString(),
  node: null,
  stitch: null,
  group: null,
  job: null,
  data: { filler: "x".repeat(size) },
});

async function readAll(source: AsyncIterable<readonly EventResource[]>, wanted = (_: EventResource) => true) {
  const ended = new AbortController();
  const errors: unknown[] = [];
  const stream = eventStream(source, wanted, ended, (error) => errors.push(error));
  // The source has ended before anything is read, as with a slow reader.
  await new Promise((resolve) => ended.signal.addEventListener("abort", resolve));
  return { text: await new Response(stream).text(), errors };
}

test("sends the wanted events with id, event and data", async () => {
  async function* source() {
    yield [event(1), event(2)];
  }
  const { text, errors } = await readAll(source(), ({ id }) => id === "2-0");
  assert.deepEqual(errors, []);
  assert.equal(text, `: still here\n\nid: 2-0\nevent: job.ended\ndata: ${JSON.stringify(event(2))}\n\n`);
});

test("a reader that falls behind gets a gap event, and its stream ends", async () => {
  let made = 0;
  async function* source() {
    for (;;) {
      made += 1;
      yield [event(made, 100_000)];
    }
  }
  const { text } = await readAll(source());
  assert.ok(made < 20, `${made} events were buffered`);
  assert.ok(text.endsWith("event: gap\ndata: {}\n\n"));
});

test("trimmed events become a gap event; any other failure is reported and ends the stream", async () => {
  const failing = async function* (error: Error) {
    yield [event(1)];
    throw error;
  };
  const gone = await readAll(failing(new RequestError("events_gone", "gone")));
  assert.ok(gone.text.endsWith("event: gap\ndata: {}\n\n"));
  assert.deepEqual(gone.errors, []);
  const broken = await readAll(failing(new Error("broken")));
  assert.equal(broken.errors.length, 1);
  assert.ok(!broken.text.includes("gap"));
});
