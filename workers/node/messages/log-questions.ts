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
  /** null if the node has no such stitch. */
  readonly log: (stitch: string) => StitchLog | null;
  /** Does this worker hold the lease, as far as it knows without asking Redis? */
  readonly holdsId: () => boolean;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

const count = z.int().min(0).max(10_000);
const tailArgs = z.object({ stitch: stitchId, tail: count });
const followArgs = tailArgs.extend({ after: logPosition.nullable(), stream: z.string(), asker: z.string() });

/** Bytes of lines in one answer. */
const MAX_TAIL_BYTES = 4 * 1024 * 1024;
/** Readers that follow a log of this node at once. Each may hold up to 1 MB here. */
const MAX_FOLLOWERS = 50;
/** Log reads at once: a read of a file that does not answer goes on after its client has given up. */
const MAX_READING = 50;
/** Less than the client waits, so that the client gets the reason. */
const READ_MS = 1500;

/** Answers questions about the logs of a node's stitches. */
export class LogQuestions {
  readonly handlers: Readonly<Record<string, QuestionHandler>> = {
    "logs.tail": (args) => this.#tail(tailArgs.parse(args)),
    "logs.follow": (args) => this.#follow(followArgs.parse(args)),
  };
  readonly #options: LogQuestionsOptions;
  readonly #stopping = new AbortController();
  #reading = 0;
  /** By the reply stream that they send to. */
  readonly #followers = new Map<string, Promise<void>>();

  constructor(options: LogQuestionsOptions) {
    this.#options = options;
  }

  /** Ends all followers and tells their readers; waits at most `graceMs`. Safe to repeat. */
  async stop(graceMs: number): Promise<void> {
    this.kill();
    await orLate(Promise.all(this.#followers.values()), graceMs);
  }

  /** Stops at once. */
  kill(): void {
    this.#stopping.abort();
  }

  #logOf(stitch: string): StitchLog {
    const log = this.#options.log(stitch);
    if (log === null) throw new RequestError("not_found", `${this.#options.node} has no stitch "${stitch}".`);
    return log;
  }

  /** @throws RequestError `node_unreachable` if the files do not answer in time; `rate_limited`. */
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

  /** Answers once the log is followed. The lines then go to the reply `stream`. */
  async #follow({ stitch, tail, after, stream, asker }: z.output<typeof followArgs>): Promise<null> {
    const log = this.#logOf(stitch);
    // The question came again, because its answer was not seen.
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
        // Another worker may have the id, and only the node itself may send. The reader gets nothing, and gives up.
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
