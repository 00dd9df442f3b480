import { RequestError } from "../domain/errors.ts";
import type { ChosenMaster, Right } from "../domain/master-mode.ts";
import type { StitchRecord } from "../domain/stitch/stitch.ts";
import type { Dispatcher } from "../queue/dispatcher.ts";
import type { MastersQueue } from "../queue/masters-queue.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { markJobDue } from "../redis/job/due-jobs.ts";
import type { JobHints } from "../redis/job/job-hints.ts";
import { cancelJob } from "../redis/job/job-record.ts";
import type { Keys } from "../redis/keys.ts";
import { changeMasterMode } from "../redis/master-mode.ts";
import type { ReplyHints } from "../redis/inbox/reply-hints.ts";
import { tellOnce } from "../redis/unreadable.ts";
import { adoptNode } from "./commands/adopt-node.ts";
import { SpecStore } from "./state/spec-store.ts";
import { StateReader } from "./state/state-reader.ts";
import { DeadLetters } from "./routing/dead-letters.ts";
import { listEvents } from "./state/event-list.ts";
import { forgetNode } from "./commands/forget-node.ts";
import { Housekeeping } from "./jobs/housekeeping.ts";
import { type CommandRequest, CommandService } from "./commands/command-service.ts";
import type { AcceptedJob } from "./commands/job-acceptance.ts";
import { JobService } from "./jobs/job-service.ts";
import { JobList } from "./jobs/job-list.ts";
import { JobWaiter } from "./jobs/job-waiter.ts";
import { NodeWatch } from "./nodes/node-watch.ts";
import { MasterPresence } from "./jobs/master-presence.ts";
import { SharedUpkeep } from "./jobs/shared-upkeep.ts";
import { TaskSender } from "./jobs/task-sender.ts";
import { type CandidateOptions, openLeader } from "./leader/candidate.ts";
import type { LateWork } from "./jobs/late-work.ts";
import { RequestSender } from "./leader/request-sender.ts";
import { Messages } from "./routing/messages.ts";
import { NodeQuestions } from "./state/node-questions.ts";
import { Observer } from "./state/observer.ts";
import type { Master } from "./ports.ts";
import { Recipients } from "./routing/recipients.ts";
import { routesOf } from "./routing/routes.ts";
import { StitchLogs } from "./state/stitch-logs.ts";

export type DefaultMasterOptions = {
  readonly id: string;
  readonly chosen: ChosenMaster;
  /** In the mode `leader`: the queue of requests to the leader, and what a candidate needs; null: this process is none. Else null. */
  readonly led: { readonly queue: MastersQueue; readonly candidate: CandidateOptions | null } | null;
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly dispatcher: Dispatcher;
  readonly hints: JobHints;
  readonly replies: ReplyHints;
  /** Of the nodes. */
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Called with errors after a command was accepted, which a sweep repairs, and for records that cannot be read. */
  readonly onLate: (error: unknown) => void;
  readonly late: LateWork;
};

/**
 * The Master that comes with CrossStitch, in its three modes. `leaderless`: the process that receives a command plans and dispatches
 * it, from the state that it sees; if two commands conflict, the node decides by their revisions. `preferred`: the same, but one Master
 * brings jobs of many steps forward. `leader`: one Master is elected, and does both.
 *
 * Long, because it is a list: every port's functions, each in one line.
 */
export function defaultMaster(options: DefaultMasterOptions): Master {
  const { id, chosen, redis, keys, hints, nowMs, onLate } = options;
  const steadyNowMs = () => performance.now();
  const presence = new MasterPresence({ ...options, steadyNowMs });
  const without: Right = { ...chosen, election: null };
  const ofLeader = (): Right | null => {
    const election = leader?.current() ?? null;
    return election === null ? null : { ...chosen, election };
  };
  const common = {
    ...options,
    onUnreadable: tellOnce(onLate),
    planning: options.led === null ? () => without : ofLeader,
    deciding: options.led === null ? () => (presence.mayDecide() ? without : null) : ofLeader,
    onHigherEpoch: (epoch: number) => leader?.askAbove(epoch),
  };
  const reader = new StateReader(common);
  const locate = (ref: string): Promise<string> => reader.locate(ref);
  const observer = new Observer({ redis, keys, deadAfterMs: options.deadAfterMs, onUnreadable: common.onUnreadable });
  const sender = new TaskSender(common);
  const jobService = new JobService({ ...common, observer, sender });
  const specs = new SpecStore(redis, keys, common.onUnreadable);
  const waiter = new JobWaiter(jobService, hints, specs, nowMs);
  const commandService = new CommandService({ ...common, sender, jobService, waiter, observer });
  const candidate = options.led?.candidate ?? null;
  const leader =
    candidate === null
      ? null
      : openLeader({ ...common, ...candidate, sweep: () => jobService.sweep(), steadyNowMs, commandService });
  const requests =
    options.led === null ? null : new RequestSender({ ...common, queue: options.led.queue, waiter, commandService });
  const accept = (request: CommandRequest, waitMs: number): Promise<AcceptedJob> =>
    requests === null
      ? commandService.name(request).then((job) => commandService.accept(request, job))
      : requests.accept(request, waitMs);
  const jobs = new JobList({ ...common, jobService });
  const recipients = new Recipients({ ...common, locate });
  const messages = new Messages({ ...common, recipients });
  const deadLetters = new DeadLetters({ ...common, recipients });
  const logs = new StitchLogs({ ...common, questions: new NodeQuestions(options), locate });
  const upkeep = new SharedUpkeep({
    ...common,
    presence,
    jobService,
    housekeeping: new Housekeeping(common),
    nodeWatch: new NodeWatch({ ...options, steadyNowMs }),
    leader,
    steadyNowMs,
  });
  const buryInbox = (node: string, incarnation: number, stitches: readonly StitchRecord[]) =>
    deadLetters.buryInbox(node, incarnation, stitches);
  return {
    id,
    state: {
      cluster: () => reader.cluster(),
      nodes: (page, filter) => reader.nodes(page, filter),
      node: (node) => reader.node(node),
      stitches: (page, filter) => reader.stitches(page, filter),
      stitch: (ref) => reader.stitch(ref),
      groups: (page) => reader.groups(page),
      group: (name) => reader.group(name),
      events: (from, limit, filter = {}) => listEvents(common, from, limit, filter),
      logs: (ref, tail) => logs.tail(ref, tail),
      followLogs: (ref, from, signal) => logs.follow(ref, from, signal),
    },
    routing: {
      ...routesOf({ redis, direct: redis, keys }),
      send: (request, key, scope) => messages.send(request, key, scope),
      deadLetters: (page, filter) => deadLetters.list(page, filter),
      redriveDeadLetter: (letter) => deadLetters.redrive(letter),
      deleteDeadLetter: (letter) => deadLetters.delete(letter),
    },
    commands: {
      submit: (submission) =>
        submission.command.dryRun
          ? commandService.plan(submission)
          : accept({ kind: "submit", submission }, submission.waitMs),
      job: (job, waitMs) => waiter.job(job, waitMs),
      jobs: (page, filter) => jobs.jobs(page, filter),
      steps: (job, page, filter) => jobs.steps(job, page, filter),
      cancel: async (job) => {
        if ((await cancelJob(redis, keys, job)) === "closed")
          throw new RequestError("job_finished", "The job has finished; there is nothing left to cancel.", {
            jobId: job,
          });
        // The Master that decides must look at it: this process may not be the one.
        await markJobDue(redis, keys, job);
        return waiter.job(job, 0);
      },
      retry: async (of) => (await accept({ kind: "retry", of }, 0)).job,
      rollback: async (of, reason = null) => (await accept({ kind: "rollback", of, reason }, 0)).job,
      adopt: (node) => adoptNode({ ...common, specs }, node),
      changeMode: async (to) => ({ ...to, before: await changeMasterMode(redis, keys, to) }),
      forgetNode: (node) => forgetNode({ ...common, buryInbox }, node),
    },
    upkeep: {
      join: () => upkeep.join(),
      leave: () => upkeep.leave(),
      sweep: () => upkeep.sweep(),
      watchNodes: () => upkeep.watchNodes(),
      nextDue: (blocking, waitMs) => upkeep.nextDue(blocking, waitMs),
      takeDue: (most) => upkeep.takeDue(most),
      advance: (ids) => upkeep.advance(ids),
    },
  };
}
