import { orLate, pause } from "../../../src/bounded-wait.ts";
import { type ErrorCode, RequestError } from "../../../src/domain/errors.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import {
  acknowledgeEntries,
  countPendingEntries,
  createInbox,
  type InboxEntry,
  isInboxGone,
  type Question,
  question,
  readNewEntries,
  readPendingEntries,
} from "../../../src/redis/inbox/inbox.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import { type Answer, giveAnswer } from "../../../src/redis/inbox/replies.ts";

/** Answers one kind of question. Throws RequestError if the question cannot be answered as asked. */
export type QuestionHandler = (args: Question["args"]) => Promise<unknown>;

type InboxReaderOptions = {
  readonly redis: RedisClient;
  /** Opens a connection in the role `blocking`; this reader disconnects it. */
  readonly openBlocking: () => RedisClient;
  readonly keys: Keys;
  readonly node: string;
  /** The incarnation of this worker's last registration. */
  readonly incarnation: () => number;
  /** Takes a message and returns at once. The handler acknowledges the message when it is finished. */
  readonly onMessage: (entry: InboxEntry) => void;
  /** The number of messages that the handler has taken and not acknowledged yet. */
  readonly messagesHeld: () => number;
  /** By the question's name. */
  readonly handlers: Readonly<Record<string, QuestionHandler>>;
  /** How long this worker certainly has the id; 0 or less if another worker may have it. */
  readonly leaseLeftMs: () => number;
  readonly redisNowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Questions answered at once. Each may hold some MB for a moment. */
const CONCURRENCY = 8;
/** Entries read at once. */
const BATCH = 500;
/** Below the 15 s after which a silent connection is given up. */
const BLOCK_MS = 5000;
const RETRY_MS = 250;
/** How often the entries that Redis counts as pending are compared with those that this reader has. */
const LOOK_MS = 5000;
/**
 * Reads a node's inbox: passes on the messages and answers the questions. An entry is acknowledged
 * when it is finished, so that no entry is lost with the worker: the next run of the worker reads the
 * pending entries first. A late question is dropped.
 *
 * Reads only while this worker has the id: a waiting read ends with the lease,
 * and entries that came too late are left to the next run of the worker.
 */
export class InboxReader {
  readonly #options: InboxReaderOptions;
  readonly #blocking: RedisClient;
  readonly #inHand = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #questions = new Map<string, InboxEntry>();
  /** Redis may have handed out entries that never came here: to an earlier run of the worker, or on a connection that broke. */
  #mayHavePending = true;
  #breaks = 0;
  #lookAtMs = 0;
  #reading: Promise<void> = Promise.resolve();

  constructor(options: InboxReaderOptions) {
    this.#options = options;
    this.#blocking = options.openBlocking();
    // A Redis Cluster client emits the second event.
    for (const event of ["close", "-node"]) this.#blocking.on(event, () => (this.#breaks += 1));
  }

  /** Resolves when the inbox exists. From then on it is read. */
  async start(): Promise<void> {
    await this.#create();
    this.#reading = this.#read();
  }

  async #create(): Promise<void> {
    const { redis, keys, node, incarnation } = this.#options;
    await createInbox(redis, keys, node, incarnation());
  }

  /**
   * Takes no more entries and waits at most `graceMs` for the
   * questions in progress. The rest stays pending. Safe to repeat.
   */
  async stop(graceMs: number): Promise<void> {
    this.kill();
    const done = Promise.all([this.#reading, ...this.#inHand.values()]);
    await orLate(done, graceMs);
  }

  /** Stops at once. */
  kill(): void {
    this.#stopping.abort();
    this.#blocking.disconnect();
  }

  async #read(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        await this.#readOnce();
      } catch (error) {
        if (signal.aborted) return;
        this.#mayHavePending = true;
        if (!isInboxGone(error)) this.#options.onError(error);
        await pause(RETRY_MS, signal);
        if (isInboxGone(error)) await this.#create().catch(this.#options.onError);
      }
    }
  }

  async #readOnce(): Promise<void> {
    const { keys, node } = this.#options;
    if (this.#options.leaseLeftMs() <= 0) {
      this.#mayHavePending = true;
      await pause(RETRY_MS, this.#stopping.signal);
      return;
    }
    if (this.#mayHavePending || (await this.#pendingUnknown())) await this.#takePending();
    // The lease ended meanwhile, even if it is back now: newer entries must not come before the skipped ones.
    if (this.#mayHavePending) return;
    const blockMs = Math.min(BLOCK_MS, this.#options.leaseLeftMs());
    const breaks = this.#breaks;
    const entries = await readNewEntries(this.#blocking, keys, node, BATCH, blockMs);
    // When its connection is back, the client repeats a read by itself and gets other entries. The entries of the first
    // read were lost on the way and come before these. All of them are pending now.
    if (breaks !== this.#breaks) this.#mayHavePending = true;
    else for (const entry of entries) this.#take(entry);
  }

  /** Are more entries pending than this reader has? Only counts them: reading all of them again costs as much as their size. */
  async #pendingUnknown(): Promise<boolean> {
    if (performance.now() < this.#lookAtMs) return false;
    this.#lookAtMs = performance.now() + LOOK_MS;
    const pending = await countPendingEntries(this.#options.redis, this.#options.keys, this.#options.node);
    return pending > this.#inHand.size + this.#questions.size + this.#options.messagesHeld();
  }

  async #takePending(): Promise<void> {
    const { keys, node } = this.#options;
    this.#mayHavePending = false;
    for (let after = "0"; ; ) {
      const entries = await readPendingEntries(this.#blocking, keys, node, after, BATCH);
      for (const entry of entries) this.#take(entry);
      const last = entries.at(-1);
      if (last === undefined || this.#mayHavePending) return;
      after = last.id;
    }
  }

  /** Takes an entry. A question waits for its turn. */
  #take(entry: InboxEntry): void {
    if (entry.kind === "message") {
      // A message keeps its place in the inbox, so the inbox bounds how many of them are held.
      if (this.#options.leaseLeftMs() > 0) this.#options.onMessage(entry);
      else this.#mayHavePending = true;
      return;
    }
    if (this.#inHand.has(entry.id)) return;
    this.#questions.set(entry.id, entry);
    this.#nextQuestions();
  }

  #nextQuestions(): void {
    for (const entry of this.#questions.values()) {
      if (this.#inHand.size >= CONCURRENCY || this.#stopping.signal.aborted) return;
      this.#questions.delete(entry.id);
      const work = this.#dealWith(entry)
        .catch(this.#options.onError)
        .finally(() => {
          this.#inHand.delete(entry.id);
          this.#nextQuestions();
        });
      this.#inHand.set(entry.id, work);
    }
  }

  async #dealWith(entry: InboxEntry): Promise<void> {
    const { redis, keys, node, incarnation } = this.#options;
    if (entry.kind === "question" && !(await this.#answer(entry))) return;
    // An entry of an unknown kind is left to a later version.
    if (entry.kind !== "question" && entry.kind !== "gone") return;
    await acknowledgeEntries(redis, keys, node, incarnation(), [entry]);
  }

  /** @returns false if this worker must not answer any more. */
  async #answer(entry: InboxEntry): Promise<boolean> {
    const asked = readQuestion(entry.body);
    if (asked === null) {
      this.#options.onError(new Error(`a question in the inbox cannot be read and is dropped (${entry.id})`));
      return true;
    }
    if (asked.untilMs <= this.#options.redisNowMs()) return true;
    if (this.#options.leaseLeftMs() <= 0) return false;
    const given = await this.#answerTo(asked);
    if (this.#options.leaseLeftMs() <= 0) return false;
    await giveAnswer(this.#options.redis, this.#options.keys, asked, given);
    return true;
  }

  async #answerTo({ name, args }: Question): Promise<Answer> {
    const refused = (code: ErrorCode, detail: string): Answer => ({ ok: false, code, detail });
    const handler = Object.hasOwn(this.#options.handlers, name) ? this.#options.handlers[name] : undefined;
    if (handler === undefined) return refused("internal", `${this.#options.node} knows no question "${name}".`);
    try {
      return { ok: true, value: (await handler(args)) ?? null };
    } catch (error) {
      if (error instanceof RequestError) return refused(error.code, error.message);
      this.#options.onError(error);
      return refused("internal", `${this.#options.node} could not answer; its log has the reason.`);
    }
  }
}

/** null if it is not a question. */
function readQuestion(body: string): Question | null {
  try {
    return question.safeParse(JSON.parse(body)).data ?? null;
  } catch {
    return null;
  }
}
