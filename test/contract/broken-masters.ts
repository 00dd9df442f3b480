// Masters that break one promise each: the clauses must refuse them.
import type { JobResource } from "../../src/contract/job.ts";
import type { Master } from "../../src/master/ports.ts";
import type { CLAUSES } from "./clauses.ts";

export type BrokenMaster = {
  readonly how: string;
  /** The clause that must refuse it. */
  readonly breaks: keyof typeof CLAUSES;
  readonly make: (sound: Master) => Master;
};

const ended = (job: JobResource): JobResource => ({ ...job, status: "succeeded", finishedAt: job.createdAt });

export const BROKEN_MASTERS: readonly BrokenMaster[] = [
  {
    how: "takes no notice of keys",
    breaks: "oneJobForOneKey",
    make: (sound) => ({
      ...sound,
      commands: {
        ...sound.commands,
        submit: (submission) => sound.commands.submit({ ...submission, idempotencyKey: null }),
      },
    }),
  },
  {
    how: "carries out what is to be planned",
    breaks: "dryRunChangesNothing",
    make: (sound) => ({
      ...sound,
      commands: {
        ...sound.commands,
        submit: async (submission) => {
          const answer = await sound.commands.submit(submission);
          if (submission.command.dryRun)
            await sound.commands.submit({ ...submission, command: { ...submission.command, dryRun: false } });
          return answer;
        },
      },
    }),
  },
  {
    how: "calls every job a success",
    breaks: "verdictIsTrue",
    make: (sound) => ({
      ...sound,
      commands: { ...sound.commands, job: async (id, waitMs) => ended(await sound.commands.job(id, waitMs)) },
    }),
  },
  {
    how: "does no upkeep",
    breaks: "upkeepEndsJobs",
    make: (sound) => ({
      ...sound,
      upkeep: {
        join: () => Promise.resolve(1000),
        leave: () => Promise.resolve(),
        sweep: () => Promise.resolve({ looked: 0, dispatched: 0, closed: 0 }),
        watchNodes: () => Promise.resolve(1000),
        nextDue: () => Promise.resolve(null),
        takeDue: () => Promise.resolve([]),
        advance: () => Promise.resolve(),
      },
    }),
  },
  {
    how: "accepts messages and stores none",
    breaks: "acceptedIsDelivered",
    make: (sound) => ({
      ...sound,
      routing: {
        ...sound.routing,
        send: async ({ to }) => {
          const stitches = "stitch" in to ? await sound.routing.locate(to.stitch) : [];
          const deliveries = stitches.map((stitch) => ({ stitch, status: "accepted" as const }));
          return { sent: { messageId: "none", deliveries }, replayed: false };
        },
      },
    }),
  },
];
