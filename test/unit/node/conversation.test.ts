import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { describe, it, type TestContext } from "node:test";
import type { Message } from "../../../src/domain/message.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StartContext } from "../../../workers/node/protocol/adaptor.ts";
import { Conversation } from "../../../workers/node/protocol/conversation.ts";
import type { StitchMessage } from "../../../workers/node/protocol/process-v1.ts";

const HEARTBEAT_MS = 1000;
const LIMIT = 256 * 1024;
const PROGRAM = { adaptor: "process", command: ["a-program"], heartbeatMs: HEARTBEAT_MS };

type Sent = { Id: number; ChannelName: string; FromStitchInstanceId: string; Data: string };

/** The input of a stitch, as the stitch sees it. The stitch can leave it unread. */
class Input extends Writable {
  #text = "";
  #unread: (() => void)[] | null = null;

  override _write(chunk: Buffer, _: string, done: () => void): void {
    this.#text += chunk.toString();
    if (this.#unread === null) done();
    else this.#unread.push(done);
  }

  leaveUnread(): void {
    this.#unread ??= [];
  }

  readAgain(): void {
    const unread = this.#unread ?? [];
    this.#unread = null;
    for (const done of unread) done();
  }

  get messages(): Sent[] {
    const parts = this.#text.split("\nend\n");
    assert.equal(parts.pop(), "", "every message is followed by `end`");
    return parts.map((json) => JSON.parse(json) as Sent);
  }
  get channels(): string[] {
    return this.messages.map(({ ChannelName }) => ChannelName);
  }
}

function converse(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval", "setTimeout", "Date"] });
  const input = new Input();
  const notes: string[] = [];
  const health: string[] = [];
  const sent: unknown[] = [];
  const replied: string[] = [];
  let rooms = 0;
  /** Resolves what the stitch sends and replies; null: it resolves at once. */
  let room: Promise<void> | null = null;
  const context: StartContext = {
    node: "n1",
    id: "a",
    group: "x.y.1",
    spec: stitchSpec.parse(PROGRAM),
    dataDir: "/",
    session: "s",
    log: (source, line) => {
      if (source === "system") notes.push(line);
      return null;
    },
    send: (...message) => {
      sent.push(message);
      return room ?? Promise.resolve();
    },
    reply: ({ from }, _channel, data) => {
      replied.push(`${from} ${data}`);
      return room ?? Promise.resolve();
    },
    onRoom: () => {
      rooms += 1;
    },
    onHealth: (now) => health.push(now),
  };
  const conversation = new Conversation(context, input, Date.now);
  t.after(() => conversation.stop());
  const say = (message: StitchMessage) => void conversation.take({ kind: "message", message });
  const mumble = () => void conversation.take({ kind: "unreadable", reason: "no", lines: [] });
  return {
    conversation,
    input,
    notes,
    health,
    sent,
    replied,
    say,
    mumble,
    beat: () => t.mock.timers.tick(HEARTBEAT_MS),
    rooms: () => rooms,
    /** From now on there is no room for what the stitch sends, until the returned function is called. */
    fill: () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      room = promise;
      return () => {
        room = null;
        resolve();
      };
    },
  };
}

const message = (from: string, data = ""): Message => ({
  id: "m",
  from,
  to: { stitch: "a" },
  channel: "c",
  data,
  ref: null,
  re: null,
  receipt: null,
  hops: 0,
  sentAtMs: 0,
});

describe("the conversation with a stitch", () => {
  it("numbers its messages in steps of two, so that Id + 1 belongs to no other message", (t) => {
    const { conversation, input, mumble, beat } = converse(t);
    conversation.start();
    mumble();
    void conversation.deliver(message("n2:b"));
    beat();
    conversation.exit();
    assert.deepEqual(
      input.messages.map(({ Id, ChannelName }) => [Id, ChannelName]),
      [
        [2, "_heartbeat"],
        [4, "_error"],
        [6, "c"],
        [8, "_heartbeat"],
        [10, "_exit"],
      ],
    );
  });

  it("sends nothing more after it has asked the stitch to exit, or has stopped", (t) => {
    for (const end of ["exit", "stop"] as const) {
      const { conversation, input, mumble, beat } = converse(t);
      conversation.start();
      conversation[end]();
      const said = input.messages.length;
      mumble();
      beat();
      conversation.exit();
      assert.equal(input.messages.length, said, end);
      t.mock.timers.reset();
    }
  });

  it("tells the stitch at most once a second that it is not understood", (t) => {
    const { input, mumble } = converse(t);
    for (let i = 0; i < 100; i++) mumble();
    assert.deepEqual(input.channels, ["_error"]);
    t.mock.timers.tick(999);
    mumble();
    assert.equal(input.messages.length, 1);
    t.mock.timers.tick(1);
    for (let i = 0; i < 100; i++) mumble();
    assert.equal(input.messages.length, 2);
  });

  it("counts an answer to a heartbeat once, and only if that heartbeat was sent", async (t) => {
    const { conversation, input, health, say, beat } = converse(t);
    let heard = false;
    void conversation.heard.then(() => (heard = true));
    conversation.start();
    for (const id of [1, 3, 0, 4, 1_000_000]) say({ command: "sync", id });
    const mail = conversation.deliver(message("n2:b"));
    // A sync does not answer a message, and an ack does not answer a heartbeat.
    say({ command: "sync", id: 4 });
    say({ command: "ack", id: 2 });
    await Promise.resolve();
    assert.equal(heard, false);
    say({ command: "sync", id: 2 });
    await Promise.resolve();
    assert.equal(heard, true);
    say({ command: "ack", id: 4 });
    assert.deepEqual(await mail, { kind: "acked" });
    for (let i = 0; i < 7; i++) {
      beat();
      say({ command: "sync", id: 2 });
    }
    assert.deepEqual(health, ["green", "yellow", "red"], "the old answer again is no sign of life");
    const last = input.messages.at(-1)?.Id ?? 0;
    say({ command: "sync", id: last });
    assert.equal(health.at(-1), "green");
  });

  it("an answer of one stitch does not count for another", (t) => {
    const one = converse(t);
    one.conversation.start();
    t.mock.timers.reset();
    const other = converse(t);
    other.conversation.start();
    for (let i = 0; i < 7; i++) other.beat();
    for (const { Id } of other.input.messages.slice(1)) one.say({ command: "sync", id: Id });
    assert.deepEqual([one.health, other.health], [[], []]);
    one.say({ command: "sync", id: 2 });
    assert.deepEqual([one.health, other.health], [["green"], []]);
  });

  it("a reply to a message names the message's sender, and its Id or Id + 1", async (t) => {
    const { conversation, sent, replied, say } = converse(t);
    const answer = (id: number | null, toStitch: string) =>
      say({ command: "data", id, data: "d", channel: null, toStitch, toGroup: null });
    const [first, second] = [conversation.deliver(message("n2:b")), conversation.deliver(message("api:7"))];
    answer(2, "n2:b");
    answer(5, "api:7");
    assert.deepEqual([(await first)?.kind, (await second)?.kind], ["replied", "replied"]);
    assert.deepEqual(replied, ["n2:b d", "api:7 d"]);
    assert.deepEqual(sent, []);
    const third = conversation.deliver(message("n2:b"));
    answer(6, "n2:other");
    answer(2, "n2:b");
    answer(null, "n2:b");
    assert.deepEqual(
      sent.map((each) => (each as unknown[])[0]),
      [{ stitch: "n2:other" }, { stitch: "n2:b" }, { stitch: "n2:b" }],
      "anything else is a message of its own",
    );
    conversation.stop();
    assert.equal((await third)?.kind, "failed");
  });

  it("replies once to a message that was delivered twice, whichever delivery is answered first", async (t) => {
    const { conversation, replied, say } = converse(t);
    const answer = (id: number, data: string) =>
      say({ command: "data", id, data, channel: null, toStitch: "n2:b", toGroup: null });
    const twice = message("n2:b");
    const [first, second] = [conversation.deliver(twice), conversation.deliver(twice)];
    answer(4, "now");
    answer(2, "again");
    assert.deepEqual([(await first)?.kind, (await second)?.kind], ["replied", "replied"]);
    assert.deepEqual(replied, ["n2:b now"]);
  });

  it("goes on reading a stitch that is asked to exit: it may acknowledge what it has handled", async (t) => {
    const { conversation, say } = converse(t);
    const [first, second] = [conversation.deliver(message("n2:b")), conversation.deliver(message("n2:c"))];
    conversation.exit();
    assert.equal(conversation.deliver(message("n2:b")), null);
    say({ command: "ack", id: 2 });
    conversation.stop();
    assert.deepEqual([(await first)?.kind, (await second)?.kind], ["acked", "failed"]);
  });

  it("sends nothing that is read after the stitch has ended: its next life may have spoken by then", async (t) => {
    const { conversation, notes, sent, replied, say } = converse(t);
    const delivered = conversation.deliver(message("n2:b"));
    say({ command: "ack", id: 2 });
    assert.equal((await delivered)?.kind, "acked");
    say({ command: "data", id: null, data: "before", channel: null, toStitch: "n2:b", toGroup: null });
    conversation.stop();
    for (const data of ["after", "later"])
      say({ command: "data", id: null, data, channel: null, toStitch: "n2:b", toGroup: null });
    say({ command: "data", id: 2, data: "a reply", channel: null, toStitch: "n2:b", toGroup: null });
    assert.deepEqual([sent.length, replied], [1, []]);
    assert.deepEqual(notes, ["it ended before all that it wrote was read: the rest of it is not sent"]);
  });

  it("sends no heartbeat to a stitch while it does not listen to it, and counts that time", async (t) => {
    const { conversation, input, health, say, beat, fill } = converse(t);
    conversation.start();
    say({ command: "sync", id: 2 });
    const empty = fill();
    const held = conversation.take({
      kind: "message",
      message: { command: "data", id: null, data: "d", channel: null, toStitch: "n2:b", toGroup: null },
    });
    for (let i = 0; i < 10; i++) beat();
    assert.deepEqual([health, input.channels], [["green"], ["_heartbeat"]]);
    assert.equal(conversation.heldMs, 10 * HEARTBEAT_MS - 100);
    empty();
    await held;
    beat();
    assert.equal(conversation.heldMs, 10 * HEARTBEAT_MS - 100);
    assert.equal(input.channels.length, 2);
    for (let i = 0; i < 6; i++) beat();
    assert.equal(health.at(-1), "red");
  });

  it("goes on listening if it may, and tells the stitch later which recipient did not get its message", async (t) => {
    const { conversation, input, notes, sent, fill } = converse(t);
    fill();
    const held = conversation.take({
      kind: "message",
      message: { command: "data", id: null, data: "d", channel: null, toStitch: null, toGroup: "a.b" },
    });
    const [[, , , , told] = []] = sent as Parameters<StartContext["send"]>[];
    told?.goOn();
    await held;
    told?.onLost(new Error("n3 is away"));
    const reason = "what it sent to a.b was not sent: n3 is away";
    assert.deepEqual([notes, input.messages.map(({ Data }) => Data)], [[reason], [reason]]);
  });

  it("goes on listening while a few replies wait for room, and stops when there are many", async (t) => {
    const { conversation, fill } = converse(t);
    const empty = fill();
    const waits: (Promise<void> | null)[] = [];
    for (let n = 1; n <= 16; n++) {
      void conversation.deliver(message(`n2:b${n}`));
      waits.push(
        conversation.take({
          kind: "message",
          message: { command: "data", id: 2 * n, data: "d", channel: null, toStitch: `n2:b${n}`, toGroup: null },
        }),
      );
    }
    assert.deepEqual(
      waits.map((wait) => wait === null),
      [...Array.from({ length: 15 }, () => true), false],
    );
    empty();
    await waits.at(-1);
  });

  it("writes no more to a stitch that does not read, says so once, and goes on when it reads again", async (t) => {
    const { conversation, input, notes, health, say, mumble, beat, rooms } = converse(t);
    conversation.start();
    say({ command: "sync", id: 2 });
    input.leaveUnread();
    const data = "x".repeat(10_000);
    for (let i = 0; i < 1000; i++) {
      const isFull = input.writableLength > LIMIT;
      assert.equal(conversation.deliver(message("n2:b", data)) === null, isFull);
      if (i % 100 === 0) beat();
      mumble();
    }
    assert.ok(
      input.writableLength > LIMIT && input.writableLength < LIMIT + 2 * data.length,
      `${input.writableLength}`,
    );
    assert.equal(notes.filter((note) => note.startsWith("it does not read its input")).length, 1);
    assert.equal(health.at(-1), "red");
    assert.equal(rooms(), 0);
    input.readAgain();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(rooms(), 1);
    beat();
    const last = input.messages.at(-1);
    assert.equal(last?.ChannelName, "_heartbeat");
    say({ command: "sync", id: last?.Id ?? 0 });
    assert.equal(health.at(-1), "green");
  });

  it("logs what the stitch has closed, unless it has exited", (t) => {
    for (const exits of [false, true]) {
      const { conversation, input, notes, beat } = converse(t);
      conversation.start();
      input.emit("error", new Error("EPIPE"));
      input.emit("close");
      conversation.outputEnded();
      if (exits) conversation.stop();
      beat();
      assert.deepEqual(
        notes.map((note) => /closed its (\w+)/.exec(note)?.[1]),
        exits ? [] : ["input", "output"],
      );
      conversation.stop();
      t.mock.timers.reset();
    }
  });
});
