import { type JobElection, maySave, mayTakeOver } from "../../domain/election.ts";
import type { FoldedJob } from "../../domain/job/fold.ts";
import type { JobState } from "../../domain/job/job.ts";
import type { Right } from "../../domain/master-mode.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import { takeOverJob } from "../../redis/job/decisions.ts";
import { readMasterMode } from "../../redis/master-mode.ts";
import type { TaskSender } from "./task-sender.ts";

export type TakeOverOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly sender: TaskSender;
  /** Under what this Master may bring jobs forward now; null if it may not: in most modes only one Master may. */
  readonly deciding: () => Right | null;
  /** Called with the epoch of a job that was decided under a higher order than that of the current leader (see `mayTakeOver`). */
  readonly onHigherEpoch: (epoch: number) => void;
  /** Called with errors after the job itself was saved or closed; a sweep repairs them. */
  readonly onLate: (error: unknown) => void;
};

/**
 * Takes over a job that was last decided under another election, and sends its unfinished tasks again. The same in modes without
 * elections, for a job that a leader has decided before the mode was changed.
 * @returns "taken" if the job must be read again; "mine" if there was nothing to do; "not now" if another one must decide.
 */
export async function takeOver(
  options: TakeOverOptions,
  state: JobState,
  folded: FoldedJob,
): Promise<"mine" | "taken" | "not now"> {
  const { redis, keys, sender, onLate, onHigherEpoch } = options;
  const right = options.deciding();
  if (right === null || state.marks.closed !== null || folded.verdict !== null) return "mine";
  if (maySave(state.election, right.election?.id ?? null)) return "mine";
  const own = right.election ?? (await withoutElection(options));
  if (!mayTakeOver(state.election, own)) {
    onHigherEpoch(state.election?.epoch ?? 0);
    return "not now";
  }
  const open = folded.tasks
    .filter(({ ahead, status }) => ahead !== true && (status === "pending" || status === "running"))
    .map(({ task }) => task)
    .filter(({ id }) => state.attempts.get(id) !== null);
  if ((await takeOverJob(redis, keys, own, state, open)) === "ok") {
    const next = open.map((task) => ({ ...task, attempt: task.attempt + 1 }));
    await sender.send(state.record, next, right).catch(onLate);
  }
  return "taken";
}

/** As what a Master of a mode without elections takes over a job: it is newer than those of all leaders before. */
async function withoutElection({ redis, keys }: TakeOverOptions): Promise<JobElection> {
  const mode = await readMasterMode(redis, keys);
  return { epoch: mode?.epoch ?? 0, n: 0, id: null };
}
