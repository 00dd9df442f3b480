import { pause } from "../../bounded-wait.ts";
import { StaleLeader } from "../../domain/election.ts";
import { RequestError } from "../../domain/errors.ts";
import type { QueueWorker, QueueWorkerOptions } from "../../queue/queue-worker.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { asRequestError } from "../../redis/connection/connection.ts";
import { isAskedFor, refuseJob } from "../../redis/job/asks.ts";
import type { Keys } from "../../redis/keys.ts";
import type { CommandService } from "../commands/command-service.ts";
import { AskWithdrawn } from "../commands/job-acceptance.ts";
import { type LeaderRequest, leaderRequest, refusalText } from "./request.ts";

/**
 * One request after the other: each is decided from what the one before has left, and its tasks are sent before those of the next.
 * With several at once, an earlier command could reach a node after a later one, and be superseded.
 */
const CONCURRENCY = 1;
const STOP_MS = 1000;
/** When to read the queue again after that has failed. */
const AGAIN_MS = 1000;

/** Makes a worker of a queue. Handed in, because an API never takes from a queue, and is bundled without what that needs. */
export type OpenQueueWorker = <T>(options: QueueWorkerOptions<T>) => Pick<QueueWorker<T>, "start" | "stop">;

export type RequestHandlerOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly commandService: CommandService;
  /** Opens a connection in the role `blocking`. */
  readonly openBlocking: () => RedisClient;
  readonly openWorker: OpenQueueWorker;
  readonly onError: (error: unknown) => void;
};

/** Handles the requests to the leader, while this Master leads. */
export class RequestHandler {
  readonly #options: RequestHandlerOptions;
  /** Aborts at the end of the term; null: this Master does not lead. */
  #term: AbortController | null = null;
  /** Resolves when what the last terms have begun has ended. */
  #taking: Promise<void> = Promise.resolve();

  constructor(options: RequestHandlerOptions) {
    this.#options = options;
  }

  /** Begins to take requests. Does nothing if it does already. */
  start(): void {
    if (this.#term !== null) return;
    const { signal } = (this.#term = new AbortController());
    this.#taking = this.#taking.then(() => this.#keepTaking(signal));
  }

  /** Takes no more requests. Those under way are refused by Redis if another leader has been elected. Safe to repeat. */
  stop(): void {
    this.#term?.abort();
    this.#term = null;
  }

  /** Takes requests until the end of the term, also after the queue could not be read. */
  async #keepTaking(term: AbortSignal): Promise<void> {
    while (!term.aborted) {
      await this.#take(term).catch(this.#options.onError);
      // After a failure; at the end of the term it does not wait.
      await pause(AGAIN_MS, term);
    }
  }

  /** Takes requests until the end of the term. @throws if the queue cannot be read any more. */
  async #take(term: AbortSignal): Promise<void> {
    const { keys, openBlocking, openWorker, onError } = this.#options;
    const blocking = openBlocking();
    const worker = openWorker({
      redis: blocking,
      prefix: keys.mastersShare,
      concurrency: CONCURRENCY,
      schema: leaderRequest,
      run: async (asked) => {
        if (term.aborted) throw new StaleLeader("this Master leads no more");
        await this.handle(asked);
      },
      onError,
    });
    const ended = Promise.withResolvers<void>();
    const end = () => ended.resolve();
    term.addEventListener("abort", end);
    try {
      worker.start(ended.reject).catch(ended.reject);
      await ended.promise;
    } finally {
      term.removeEventListener("abort", end);
      await worker.stop(STOP_MS);
      blocking.disconnect();
    }
  }

  /** Carries out a request, or refuses it. @throws if this Master cannot decide it: then it is delivered again. */
  async handle({ job, nonce, request }: LeaderRequest): Promise<void> {
    const { redis, keys, commandService } = this.#options;
    if (!(await isAskedFor(redis, keys, job.id, nonce))) return;
    try {
      // Other deliveries of the request, to this leader or the next, may create the job meanwhile.
      await commandService.accept(withoutWait(request), { ...job, repeatable: true }, nonce);
    } catch (error) {
      if (error instanceof AskWithdrawn) return;
      const known = asRequestError(error);
      const isElsewhere =
        error instanceof StaleLeader || (known instanceof RequestError && known.code === "wrong_mode");
      if (isElsewhere || (known instanceof RequestError && known.code === "redis_unavailable")) throw error;
      const refused =
        known instanceof RequestError
          ? known
          : new RequestError("internal", "The leader could not handle this; its log has the reason.");
      if (refused !== known) this.#options.onError(error);
      await refuseJob(redis, keys, job.id, nonce, refusalText(refused));
    }
  }
}

/** The API waits for the job's end, not the leader. */
const withoutWait = (request: LeaderRequest["request"]): LeaderRequest["request"] =>
  request.kind === "submit" ? { ...request, submission: { ...request.submission, waitMs: 0 } } : request;
