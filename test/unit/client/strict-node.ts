import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { StringDecoder } from "node:string_decoder";
import type { TestContext } from "node:test";
import { until } from "../../support/cluster.ts";

/** The arguments that a node passes to a stitch, in the order of process-v1. */
export const FACTS = [
  "coreid=n1",
  "corepid=4711",
  "instanceid=probe-1",
  "application=test",
  "component=probe",
  "version=1",
  "groupname=test.probe.1",
  "datadir=/data/probe=1",
  "channel=Stdio",
  "serializer=Json",
];

export type Written = {
  readonly Command: string;
  readonly Id?: number;
  readonly Data?: string;
  readonly Logs?: readonly string[];
  readonly [field: string]: unknown;
};

export type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/**
 * A node at the other end of a stitch's pipes. It accepts only what process-v1 tells a stitch to write: an object on one
 * line, then a line that is exactly `end`. When the test ends, it kills the process if it still runs.
 */
export class StrictNode {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  /** All messages, in the order in which they came. */
  readonly written: Written[] = [];
  /** The lines outside messages. */
  readonly lines: string[] = [];
  /** Lines that began as a message and are none. */
  readonly broken: string[] = [];
  stderr = "";
  #rest = "";
  #open: string | null = null;
  #lastId = 5;
  readonly #replied = new Set<unknown>();

  constructor(t: TestContext, command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const [program = "", ...args] = command;
    const { PATH = "", HOME = "" } = process.env;
    this.child = spawn(program, args, { env: { PATH, HOME, ...env } });
    this.ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code, signal) => resolve({ code, signal }));
    });
    // A stitch that has ended cannot read what is still written to it.
    this.child.stdin.on("error", () => undefined);
    const decoder = new StringDecoder("utf8");
    this.child.stdout.on("data", (chunk: Buffer) => this.#read(decoder.write(chunk)));
    this.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    t.after(async () => {
      this.child.kill("SIGKILL");
      await this.ended;
    });
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (this.#open !== null) {
        if (line === "end") this.written.push(JSON.parse(this.#open) as Written);
        else this.broken.push(this.#open, line);
        this.#open = null;
      } else if (line.startsWith("{")) this.#open = line;
      else if (line !== "") this.lines.push(line);
    }
  }

  /** All messages except those for the log. */
  get messages(): Written[] {
    return this.written.filter(({ Command }) => Command !== "logs");
  }

  /** The lines that came in messages for the log. */
  get logs(): string[] {
    return this.written.flatMap(({ Command, Logs = [] }) => (Command === "logs" ? Logs : []));
  }

  write(text: string | Uint8Array): void {
    this.child.stdin.write(text);
  }

  /**
   * Sends a message as a node writes it, with `ReplyToId` if it answers a message that had its own Id.
   * @returns its id.
   */
  send(channel: string, data = "", from = "n1:other", replyTo?: number): number {
    this.#lastId += 2;
    const message = {
      Id: this.#lastId,
      FromStitchInstanceId: from,
      NodeId: "n1",
      ChannelName: channel,
      Data: data,
      ReplyToId: replyTo,
    };
    this.write(`${JSON.stringify(message)}\nend\n`);
    return this.#lastId;
  }

  /** Sends a message of the system. @returns its id. */
  tell(channel: "_heartbeat" | "_exit" | "_error" | `_${string}`, data = ""): number {
    return this.send(channel, data, "");
  }

  /** Resolves with the answer to the message with this id. */
  async answer(id: number): Promise<Written> {
    return until(`an answer to ${id}; stderr: ${this.stderr}`, () =>
      this.messages.find((message) => message.Id === id),
    );
  }

  /** Sends a message and resolves with the answer. */
  async ask(channel: string, data = "", from?: string): Promise<Written> {
    return this.answer(this.send(channel, data, from));
  }

  /** Sends a message and resolves with the data of the reply. */
  async reply(channel: string, data = ""): Promise<string> {
    const reply = await this.ask(channel, data);
    assert.equal(reply.Command, "data", JSON.stringify(reply));
    return reply.Data ?? "";
  }

  /** Resolves with the next question to the stitch `to` that has no answer yet. */
  async question(to: string): Promise<Written & { readonly Id: number }> {
    const isQuestion = (message: Written): message is Written & { readonly Id: number } =>
      message.Command === "data" && message.ToStitchInstanceId === to && !this.#replied.has(message.Id);
    const found = await until(`a question to ${to}; stderr: ${this.stderr}`, () => this.messages.find(isQuestion));
    this.#replied.add(found.Id);
    return found;
  }

  /** Fails unless a heartbeat is answered. */
  async beats(): Promise<void> {
    const id = this.tell("_heartbeat");
    assert.deepEqual(await this.answer(id), { Command: "sync", Id: id });
  }
}
