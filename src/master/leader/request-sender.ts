import { RequestError } from "../../domain/errors.ts";
import { hex } from "../../domain/json/digest.ts";
import type { ChosenMaster } from "../../domain/master-mode.ts";
import type { MastersQueue } from "../../queue/masters-queue.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { isCluster } from "../../redis/connection/connection.ts";
import type { HintWatch } from "../../redis/hint-watchers.ts";
import { askForJob, lookAtAsk } from "../../redis/job/asks.ts";
import type { JobHints } from "../../redis/job/job-hints.ts";
import type { Keys } from "../../redis/keys.ts";
import { refuseOtherMode } from "../../redis/master-mode.ts";
import type { CommandRequest, CommandService, NamedJob } from "../commands/command-service.ts";
import type { AcceptedJob } from "../commands/job-acceptance.ts";
import type { LateWork } from "../jobs/late-work.ts";
import type { JobWaiter } from "../jobs/job-waiter.ts";
import { type LeaderRequest, refusalOf } from "./request.ts";

/** How long a request waits for the leader, unless its client waits longer for the job. Less than the API's 3 s for an answer. */
const ASK_MS = 2000;
/** How often the API looks whether its request was handled, even without a hint. */
const LOOK_MS = 500;

export type RequestSenderOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly chosen: ChosenMaster;
  readonly queue: MastersQueue;
  readonly hints: JobHints;
  readonly waiter: JobWaiter;
  readonly commandService: CommandService;
  readonly randomBytes: (count: number) => Uint8Array;
  readonly nowMs: () => number;
  /** Takes the removal of an entry that was withdrawn. If it fails, the leader drops the entry. */
  readonly late: LateWork;
};

/** Sends requests to the leader, and waits until it has carried them out or refused them. */
export class RequestSender {
  readonly #options: RequestSenderOptions;

  constructor(options: RequestSenderOptions) {
    this.#options = options;
  }

  /**
   * Has the leader accept the job that a request asks for, and waits at most `waitMs` for its end. Safe to repeat for a job that is
   * `repeatable`.
   * @throws RequestError the leader's refusal; `no_leader` if there is none in time, `wrong_mode` if the cluster has no leaders: the
   *   request is withdrawn then.
   */
  async accept(request: CommandRequest, waitMs: number): Promise<AcceptedJob> {
    const { commandService, hints, waiter, nowMs } = this.#options;
    const job = await commandService.name(request);
    const askedAtMs = nowMs();
    const left = () => Math.max(0, waitMs - (nowMs() - askedAtMs));
    const known = job.repeatable ? await commandService.replay(job, waitMs) : null;
    if (known !== null) return known;
    const watch = hints.watch(job.id);
    try {
      if (
        await this.#ask({ request, job, nonce: hex(this.#options.randomBytes(16)) }, Math.max(ASK_MS, waitMs), watch)
      ) {
        const ended = await waiter.wait(job.id, left(), waitMs > 0 ? watch : null);
        return { kind: "job", job: await waiter.view(ended, null), replayed: false };
      }
    } finally {
      watch.stop();
    }
    const created = await commandService.replay(job, left());
    if (created === null) throw new Error(`the job ${job.id} was there a moment ago`);
    return created;
  }

  /** @returns true if the leader has created the job for this request; false if the job was there already. */
  async #ask(asked: LeaderRequest, askMs: number, watch: HintWatch): Promise<boolean> {
    const { redis, keys, nowMs } = this.#options;
    const { job, nonce } = asked;
    const untilMs = nowMs() + askMs;
    const asking = askForJob(redis, keys, job.id, nonce, askMs);
    // The leader drops an entry that nobody asks for. A single Redis keeps the order of commands sent together.
    if (isCluster(redis) && (await asking) === "known") return false;
    const [reply] = await Promise.all([asking, this.#enqueue(asked)]);
    if (reply === "known") return false;
    for (;;) {
      const leftMs = untilMs - nowMs();
      if (leftMs > 0) await watch.next(Math.min(LOOK_MS, leftMs));
      const result = await lookAtAsk(redis, keys, job.id, nonce, leftMs <= 0);
      switch (result.kind) {
        case "record":
          return result.isOwn;
        case "refused":
          throw refusalOf(result.refusal);
        case "withdrawn":
          this.#options.late.add(this.#options.queue.remove(entryId(job, nonce)));
          await refuseOtherMode(redis, keys, this.#options.chosen);
          throw new RequestError(
            "no_leader",
            "No leader has taken this in time, and it was withdrawn: nothing was changed. An election takes a few seconds; if it " +
              "stays like this, start a Master (stitch masters shows those that are alive).",
          );
        case "open":
      }
    }
  }

  async #enqueue(asked: LeaderRequest): Promise<void> {
    const { redis, keys, queue } = this.#options;
    const { job, nonce, request } = asked;
    try {
      await queue.add(entryId(job, nonce), request.kind, asked);
    } catch (error) {
      // It may be in the queue nevertheless: nobody must carry it out after this answer.
      await lookAtAsk(redis, keys, job.id, nonce, true);
      throw error;
    }
  }
}

const entryId = ({ id }: NamedJob, nonce: string): string => `${id}.${nonce}`;
