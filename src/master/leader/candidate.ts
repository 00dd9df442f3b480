import type { Election, LeaderLease, Won } from "../../domain/election.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import { LEASE_IN_REDIS } from "../../domain/master-mode.ts";
import { EtcdLease } from "../../etcd/etcd-lease.ts";
import { emitEvents } from "../../redis/events.ts";
import { redisLease } from "../../redis/leader-lease.ts";
import { makeAllDue } from "../../redis/job/job-index.ts";
import { Leader, type LeaderOptions } from "./leader.ts";
import { RequestHandler, type RequestHandlerOptions } from "./request-handler.ts";

/** What a process needs to take part in the election. */
export type CandidateOptions = Pick<LeaderOptions, "lease" | "leaseMs" | "random"> &
  Pick<RequestHandlerOptions, "openBlocking" | "openWorker"> & {
    /** Aborts when the connections are closed. */
    readonly closed: AbortSignal;
  };

type Options = CandidateOptions &
  Omit<LeaderOptions, "onElected" | "onLost"> &
  Omit<RequestHandlerOptions, "onError"> & {
    /** Looks after jobs that are due. */
    readonly sweep: () => Promise<unknown>;
    readonly onLate: (error: unknown) => void;
  };

/**
 * This Master as a candidate: while it leads, it handles the requests to the leader. Opens no connection and sends nothing until it
 * takes part in the election.
 */
export function openLeader(options: Options): Leader {
  const { redis, keys, lease, closed, sweep, onLate } = options;
  const handler = new RequestHandler({ ...options, onError: onLate });
  const tell = (events: readonly ClusterEvent[]) => emitEvents(redis, keys, events).catch(onLate);
  closed.addEventListener("abort", () => handler.stop());
  return new Leader({
    ...options,
    lease: {
      place: lease.place,
      win: (candidacy) => lease.win(candidacy),
      renew: (election, leaseMs) => lease.renew(election, leaseMs),
      giveBack: async (election) => {
        await lease.giveBack(election);
        await tell([changed("leader.lost", election)]);
      },
    },
    onElected: ({ election, before }: Won) => {
      handler.start();
      // The jobs of the leader before would be looked at within a few seconds, too.
      makeAllDue(redis, keys).then(sweep).catch(onLate);
      void tell([...(before === null ? [] : [changed("leader.lost", before)]), changed("leader.elected", election)]);
    },
    onLost: () => handler.stop(),
  });
}

const changed = (
  type: "leader.elected" | "leader.lost",
  { holder, id, ...order }: Pick<Election, "holder" | "id">,
): ClusterEvent => ({ type, data: { master: holder, election: id, ...order } });

/** The leader's lease where the setting says. Sends nothing until it is used. */
export function leaseAt(context: Parameters<typeof redisLease>[0], leaseMs: number): LeaderLease {
  const place = context.chosen.lease ?? LEASE_IN_REDIS;
  return place === LEASE_IN_REDIS ? redisLease(context) : new EtcdLease({ ...context, place, leaseMs });
}
