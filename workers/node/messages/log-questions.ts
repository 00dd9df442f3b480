import * as z from "zod";
import { LATE, orLate } from "../../../src/bounded-wait.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import { stitchId } from "../../../src/domain/names/ids.ts";
import { type LogLine, logPosition } from "../../../src/domain/stitch/log-line.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import { appendBatch } from "../../../src/redis/inbox/reply-stream.ts";
import type { QuestionHandler } from "./inbox-reader.ts";
import { LogFollower } from "../logs/log-follower.ts";
import type { StitchLog } from "../logs/stitch-log.ts";

type LogQuestionsOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  /** null where the node has no such stitch. */
  readonly log: (stitch: string) => StitchLog | null;
  /** Has this worker the id, as far as it can tell without asking? */
  readonly holdsId: () => boolean;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

const count = z.int().min(0).max(10_000);
const tailArgs = z.object({ stitch: stitchId, tail: count });
const followArgs = tailArgs.extend({ after: logPosition.nullable(), stream: z.string(), asker: z.string() });

/** Bytes of lines in one answer. */
const MAX_TAIL_BYTES = 4 * 1024 * 1024;
/** Readers that follow a log of this node at once. Each has up to a MB in hand here. */
const MAX_FOLLOWERS = 50;
/** Reads of files that are not answered are still under way when their askers have given up. */
const MAX_READING = 50;
/** Less than an asker waits: it is to hear why. */
const READ_MS = 1500;

/** Answers what is asked about the logs of a node's stitches. */
export class LogQuestions {
  readonly handlers: Readonly<Record<string, QuestionHandler>> = {
    "logs.tail": (args) => this.#tail(tailArgs.parse(args)),
    "logs.follow": (args) => this.#follow(followArgs.parse(args)),
  };
  readonly #options: LogQuestionsOptions;
  readonly #stopping = new AbortController();
  #reading = 0;
  /** By the reply that they send to. */
  readonly #followers = new Map<string, Promise<void>>();

  constructor(options: LogQuestionsOptions) {
    this.#options = options;
  }

  /** Ends every following, telling its reader; waits at most `graceMs`. Safe to repeat. */
  async stop(graceMs: number): Promise<void> {
    this.kill();
    await orLate(Promise.all(this.#followers.values()), graceMs);
  }

  /** Lets go at once. */
  kill(): void {
    this.#stopping.abort();
  }

  #logOf(stitch: string): StitchLog {
    const log = this.#options.log(stitch);
    if (log === null) throw new RequestError("not_found", `${this.#options.node} has no stitch "${stitch}".`);
    return log;
  }

  /** @throws RequestError `node_unreachable` where the files do not answer in time, `rate_limited`. */
  async #read<T>(stitch: string, read: (log: StitchLog) => Promise<T>): Promise<T> {
    const log = this.#logOf(stitch);
    const { node } = this.#options;
    if (this.#reading >= MAX_READING)
      throw new RequestError("rate_limited", `${node} reads ${MAX_READING} logs at once already.`);
    this.#reading += 1;
    const reading = read(log).finally(() => (this.#reading -= 1));
    const lines = await orLate(reading, READ_MS);
    if (lines !== LATE) return lines;
    throw new RequestError(
      "node_unreachable",
      `The log of ${stitch} on ${node} does not answer; see to the disk of its state folder.`,
    );
  }

  async #tail({ stitch, tail }: z.output<typeof tailArgs>): Promise<readonly LogLine[]> {
    const { lines, cut } = await this.#read(stitch, (log) => log.tail(tail, MAX_TAIL_BYTES));
    if (!cut) return lines;
    const line = `earlier lines are left out: an answer holds ${MAX_TAIL_BYTES / 1024 / 1024} MiB`;
    return [{ at: lines[0]?.at ?? new Date(this.#options.nowMs()).toISOString(), source: "system", line }, ...lines];
  }

  /** Answers once it follows. What it sends then goes to the reply `stream`. */
  async #follow({ stitch, tail, after, stream, asker }: z.output<typeof followArgs>): Promise<null> {
    const log = this.#logOf(stitch);
    // Asked again, because it was not seen that this was answered.
    if (this.#followers.has(stream)) return null;
    if (this.#followers.size >= MAX_FOLLOWERS)
      throw new RequestError(
        "rate_limited",
        `${this.#options.node} has ${MAX_FOLLOWERS} readers that follow logs already.`,
      );
    const follower = new LogFollower({
      log,
      from: after ?? (await this.#read(stitch, () => log.positionOfLast(tail))),
      isRemoved: () => this.#options.log(stitch) !== log,
      send: async (number, batch) => {
        // Another worker may have the id: what is sent must be this node's. The reader hears nothing, and gives up.
        if (!this.#options.holdsId())
          throw new Error("no heartbeat within the lease: nothing is sent to readers of logs");
        return appendBatch(
          this.#options.redis,
          this.#options.keys,
          { reply: stream, asker },
          number,
          JSON.stringify(batch),
        );
      },
      nowMs: this.#options.nowMs,
    });
    const following = follower
      .run(this.#stopping.signal)
      .catch(this.#options.onError)
      .finally(() => this.#followers.delete(stream));
    this.#followers.set(stream, following);
    return null;
  }
}
