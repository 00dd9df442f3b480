// The node's side of process-v1 with one stitch, without a process.
import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { type TestContext, test } from "node:test";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { Message } from "../../../src/domain/message.ts";
import { Conversation } from "../../../workers/node/protocol/conversation.ts";

function start(t: TestContext) {
  const sent: unknown[] = [];
  const input = new PassThrough();
  const conversation = new Conversation(
    {
      node: "n1",
      id: "a",
      group: "test.stitch.1",
      spec: stitchSpec.parse({ adaptor: "process", command: ["x"], protocol: "process-v1" }),
      dataDir: "/",
      session: "",
      log: () => null,
      send: async (...message) => void sent.push(message),
      reply: async (...reply) => void sent.push(reply),
      onRoom: () => undefined,
      onHealth: () => undefined,
    },
    input,
    () => 0,
  );
  t.after(() => conversation.stop());
  /** What was written to the stitch, as objects. */
  const written = () =>
    String(input.read() ?? "")
      .split("\nend\n")
      .filter((text) => text !== "")
      .map((text) => JSON.parse(text) as Record<string, unknown>);
  const says = (id: number | null, channel: string | null) =>
    conversation.take({
      kind: "message",
      message: { command: "data", id, data: "x", channel, toStitch: "n2:b", toGroup: null },
    });
  return { conversation, sent, written, says };
}

const MESSAGE: Message = {
  id: "m1",
  from: "n2:b",
  to: { stitch: "a" },
  channel: "",
  data: "hello",
  ref: 7,
  re: null,
  receipt: null,
  hops: 0,
  sentAtMs: 0,
};

test("a stitch sends nothing on a channel of the system: no message, no reply, no late reply", async (t) => {
  const { conversation, sent, written, says } = start(t);
  const delivered = conversation.deliver(MESSAGE);
  const [{ Id } = {}] = written();
  await says(null, "_exit");
  await says(Number(Id), "_exit");
  assert.match(String(written()[0]?.["Data"]), /the channel "_exit" is the system's/);
  assert.deepEqual(sent, []);
  await says(Number(Id), "mine");
  assert.equal((await delivered)?.kind, "replied");
  assert.deepEqual(sent.splice(0), [[MESSAGE, "mine", "x"]]);
  const acknowledged = conversation.deliver({ ...MESSAGE, id: "m2" });
  const later = Number(written()[0]?.["Id"]);
  void conversation.take({ kind: "message", message: { command: "ack", id: later } });
  assert.deepEqual(await acknowledged, { kind: "acked" });
  await says(later, "_heartbeat");
  assert.deepEqual(sent, []);
  await says(later, "mine");
  assert.deepEqual(sent, [[{ ...MESSAGE, id: "m2" }, "mine", "x"]]);
});
