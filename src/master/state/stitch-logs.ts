import * as z from "zod";
import { RequestError } from "../../domain/errors.ts";
import { splitFullId } from "../../domain/names/ids.ts";
import { logBatch, logLine, logPosition } from "../../domain/stitch/log-line.ts";
import { noStitch } from "../../domain/planning/observed.ts";
import type { LogLineResource } from "../../contract/log-line.ts";
import type { ListResource } from "../../contract/list.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import type { ReplyHints } from "../../redis/inbox/reply-hints.ts";
import { endReading, readBatches, READER_LEASE_MS, renewReaderLease } from "../../redis/inbox/reply-stream.ts";
import { readStitch } from "../../redis/stitch/stitch-records.ts";
import { iso } from "../../contract/time.ts";
import type { LogStart, PlacedLogLine } from "../ports.ts";
import type { NodeQuestions } from "./node-questions.ts";

const LOOK_MS = 1000;
/** A node that follows a log sends something every 2 s, even if it is an empty batch. */
const SILENT_MS = 10_000;

export type StitchLogsOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly replies: ReplyHints;
  readonly questions: NodeQuestions;
  readonly locate: (ref: string) => Promise<string>;
  readonly nowMs: () => number;
  /** Called with errors outside the reading itself, such as a lease that was not renewed; they repair themselves. */
  readonly onLate: (error: unknown) => void;
};

type Found = { readonly node: string; readonly stitch: string; readonly nowMs: number };

/** Reads the logs that nodes keep of their stitches. */
export class StitchLogs {
  readonly #options: StitchLogsOptions;

  constructor(options: StitchLogsOptions) {
    this.#options = options;
  }

  async tail(ref: string, tail: number): Promise<ListResource<LogLineResource>> {
    const { node, stitch, nowMs } = await this.#find(ref);
    const lines = await this.#options.questions.ask(node, "logs.tail", { stitch, tail }, nowMs);
    return { items: z.array(logLine).parse(lines), nextCursor: null, asOf: iso(nowMs) };
  }

  async follow(ref: string, from: LogStart, signal: AbortSignal): Promise<AsyncIterable<readonly PlacedLogLine[]>> {
    const { redis, keys, questions, replies } = this.#options;
    const { node, stitch, nowMs } = await this.#find(ref);
    const stream = questions.newReplyId();
    // Before the node is asked: it follows a log only for a reader with a lease.
    await renewReaderLease(redis, keys, stream);
    try {
      const after = afterOf(node, from.afterId);
      await questions.ask(node, "logs.follow", { stitch, tail: from.tail, after, stream, asker: replies.asker }, nowMs);
    } catch (error) {
      await this.#end(stream);
      throw error;
    }
    return this.#read(node, stream, signal);
  }

  async #find(ref: string): Promise<Found> {
    const { redis, keys } = this.#options;
    const id = await this.#options.locate(ref);
    const { node, stitch } = splitFullId(id);
    const [{ record, movedTo }, presence] = await Promise.all([
      readStitch(redis, keys, id),
      this.#options.questions.presence(node),
    ]);
    if (record === null) throw noStitch(ref, movedTo);
    if (presence.away !== null) throw new RequestError("node_unreachable", presence.away);
    return { node, stitch, nowMs: presence.nowMs };
  }

  async *#read(node: string, stream: string, signal: AbortSignal): AsyncGenerator<readonly PlacedLogLine[]> {
    const { redis, keys, replies } = this.#options;
    const watch = replies.watch(stream);
    const wake = () => watch.give();
    signal.addEventListener("abort", wake, { once: true });
    // Also while the caller is slow: then nothing is read, and the node waits.
    const renewal = setInterval(() => {
      renewReaderLease(redis, keys, stream).catch(this.#options.onLate);
    }, READER_LEASE_MS / 3);
    let read = 0;
    let heardAtMs = this.#options.nowMs();
    try {
      while (!signal.aborted) {
        const batches = await readBatches(redis, keys, stream, read);
        for (const { number, batch } of batches) {
          const { lines, last } = logBatch.parse(JSON.parse(batch));
          if (lines.length > 0)
            yield lines.map(({ after, ...line }) => ({ id: after === null ? null : `${node}:${after}`, line }));
          if (last) return;
          read = number;
        }
        if (batches.length > 0) heardAtMs = this.#options.nowMs();
        else if (this.#options.nowMs() - heardAtMs > SILENT_MS) return yield [this.#silence(node)];
        else await watch.next(LOOK_MS);
      }
    } finally {
      clearInterval(renewal);
      signal.removeEventListener("abort", wake);
      watch.stop();
      await this.#end(stream);
    }
  }

  #silence(node: string): PlacedLogLine {
    const line = `nothing was heard from ${node} for ${SILENT_MS / 1000} s: the log is followed no further`;
    return { id: null, line: { at: iso(this.#options.nowMs()), source: "system", line } };
  }

  /** Best effort: without its lease, the stream expires by itself. */
  #end(stream: string): Promise<void> {
    return endReading(this.#options.redis, this.#options.keys, stream).catch(this.#options.onLate);
  }
}

/** The position in a line's id, if the id is from this node; null otherwise, because another node's log is another log. */
function afterOf(node: string, id: string | null): string | null {
  const [of, position] = id?.split(":") ?? [];
  return of === node && logPosition.safeParse(position).success ? (position ?? null) : null;
}
