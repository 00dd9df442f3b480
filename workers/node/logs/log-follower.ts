import { LATE, orLate, pause } from "../../../src/bounded-wait.ts";
import {
  formatPosition,
  type FollowedLine,
  type LogBatch,
  type LogPosition,
} from "../../../src/domain/stitch/log-line.ts";
import { Hint } from "../../../src/redis/hint.ts";
import { ANSWER_MS } from "../files/bounded-files.ts";
import type { StitchLog } from "./stitch-log.ts";

type LogFollowerOptions = {
  readonly log: StitchLog;
  readonly from: LogPosition;
  /** Has the stitch been removed? Its earlier lines are still sent. */
  readonly isRemoved: () => boolean;
  /** Sends a batch to the reader. If it is unknown whether the batch arrived, it is sent again with the same number. */
  readonly send: (number: number, batch: LogBatch) => Promise<"ok" | "full" | "gone">;
  readonly nowMs: () => number;
};

/**
 * A batch is sent at least this often. A reader that gets no batch for several of these times counts the node as gone; the
 * node notices this soon that a reader is gone.
 */
const BEAT_MS = 2000;
/** Lines that come within this time go together, so one reader costs the node at most one batch in this time. */
const PACE_MS = 50;
/** How often sending is tried again if the reader is behind or Redis is away. */
const RETRY_MS = 250;
const GIVE_UP_MS = 10_000;

/**
 * Sends a log to one reader while the log is written, batch by batch. Lines that a slow reader has not taken stay in the files:
 * the reader loses them only if they are rotated away before, and then a line says so.
 */
export class LogFollower {
  readonly #options: LogFollowerOptions;

  constructor(options: LogFollowerOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the reader or the stitch is gone, or `stopping` has aborted and the reader was told.
   * @throws an error of reading the log, or of sending if it fails for 10 s.
   */
  async run(stopping: AbortSignal): Promise<void> {
    const hint = new Hint();
    const give = () => hint.give();
    const unwatch = this.#options.log.watch(give);
    stopping.addEventListener("abort", give);
    try {
      await this.#run(hint, stopping);
    } finally {
      stopping.removeEventListener("abort", give);
      unwatch();
    }
  }

  async #run(hint: Hint, stopping: AbortSignal): Promise<void> {
    const { log, nowMs } = this.#options;
    let position = this.#options.from;
    let sentAtMs = nowMs();
    for (let number = 1; ; ) {
      const why = stopping.aborted
        ? "the node is leaving"
        : this.#options.isRemoved()
          ? "the stitch was removed"
          : null;
      const read = await orLate(log.read(position), ANSWER_MS);
      if (read === LATE) {
        const last = this.#remark(`its log has not answered for ${ANSWER_MS / 1000} s: it is not followed any longer`);
        await this.#send(number, { lines: [last], last: true }, stopping);
        return;
      }
      const quietMs = read.lines.length > 0 || read.lost || why !== null ? null : BEAT_MS - (nowMs() - sentAtMs);
      if (quietMs !== null && quietMs > 0) {
        await hint.next(quietMs);
        continue;
      }
      const last = why !== null && read.lines.length === 0;
      const lines: FollowedLine[] = read.lines.map(({ line, after }) => ({ ...line, after: formatPosition(after) }));
      if (read.lost)
        lines.unshift(
          this.#remark(
            "lines were lost here: their file was put aside and deleted, or taken away, before they were read",
          ),
        );
      if (last) lines.push(this.#remark(`${why}: its log ends here`));
      if ((await this.#send(number, { lines, last }, stopping)) === "gone" || last) return;
      number += 1;
      position = read.next;
      sentAtMs = nowMs();
      await pause(PACE_MS, stopping);
    }
  }

  #remark(line: string): FollowedLine {
    return { at: new Date(this.#options.nowMs()).toISOString(), source: "system", line, after: null };
  }

  /** Sends a batch until the reader takes it. If the node is leaving, it does not try again. */
  async #send(number: number, batch: LogBatch, stopping: AbortSignal): Promise<"ok" | "gone"> {
    let failingSinceMs: number | null = null;
    for (;;) {
      try {
        const sent = await this.#options.send(number, batch);
        if (sent !== "full") return sent;
        failingSinceMs = null;
      } catch (error) {
        failingSinceMs ??= this.#options.nowMs();
        if (this.#options.nowMs() - failingSinceMs > GIVE_UP_MS) throw error;
      }
      if (stopping.aborted) return "gone";
      await pause(RETRY_MS, stopping);
    }
  }
}
