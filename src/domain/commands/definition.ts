import type * as z from "zod";
import type { ClusterEvent } from "../event.ts";
import type { Observed } from "../planning/observed.ts";
import type { Plan } from "../planning/planned.ts";
import type { StitchSpec } from "../stitch/spec.ts";
import type { FinishedJob, Next } from "./next.ts";

/** The fields that every body has. */
type AnyBody = {
  readonly command: string;
  readonly target: string;
  readonly deadlineMs?: number | undefined;
  readonly waitForNode: boolean;
  readonly reason?: string | undefined;
  readonly dryRun: boolean;
  readonly planToken?: string | undefined;
};

/**
 * All that there is to a command, in a file of its own; `command.ts` has them all. To add one: its name in `command-names.ts`,
 * then the compiler says what is missing.
 */
export type CommandDefinition<Schema extends z.ZodType<AnyBody>> = {
  /** Its body as a client sends it. A checked body has every default filled in. */
  readonly schema: Schema;
  /**
   * Reads what its plan is made from.
   * @param draw take the numbers of new stitches from the component's counter; without, only look where that stands (a dry run).
   */
  readonly observe: (command: z.output<Schema>, look: Look, draw: boolean) => Promise<Observed>;
  /** See `planCommand`. */
  readonly plan: (command: z.output<Schema>, observed: Observed) => Plan;
  /** What repeats the parts of such a job that did not succeed (at least one did not). */
  readonly retry: (job: FinishedJob) => Next;
  /** What takes such a job back. @throws RequestError `not_reversible`, with the reason. */
  readonly rollback: (job: FinishedJob) => Next;

  // What most commands have none of.
  /** Are ids of what it creates drawn from a counter, so that two plans alike may differ in them? */
  readonly drawsIds?: (command: z.output<Schema>) => boolean;
  /** It draws them for the plan that is carried out alone: once it holds what it works on. */
  readonly drawsOnceHeld?: true;
  /** Milliseconds that it may take by its own options, beside what its stitches take. */
  readonly mayTakeMs?: (command: z.output<Schema>) => number;
  /** Changes the plan of a retry, which is planned anew. @param notUp stitches of the first job that are there, and did not come up. */
  readonly planRetry?: (command: z.output<Schema>, plan: Plan, notUp: ReadonlySet<string>, observed: Observed) => Plan;
  /** What is told of, beside the end of the job, where it has succeeded. */
  readonly succeeded?: (target: string) => ClusterEvent;
};

/** Has the compiler check a definition, and keeps what its body is. */
export const define = <Schema extends z.ZodType<AnyBody>>(
  definition: CommandDefinition<Schema>,
): CommandDefinition<Schema> => definition;

/**
 * Reads what commands are planned from, in as few round trips as it takes. A record that cannot be read is left out where many
 * are read; where the command names it, that is an error.
 */
export type Look = {
  /** A node. */
  node(id: string): Promise<Observed>;
  /** A node, what is on it, and where that could go. */
  nodeToEmpty(id: string): Promise<Observed>;
  /** Where new stitches of a group could go. `node`, `id`: where the command names them. */
  newStitches(
    wanted: {
      readonly group: string;
      readonly node?: string | undefined;
      readonly id?: string | undefined;
      readonly count: number;
      readonly spec: StitchSpec;
    },
    draw: boolean,
  ): Promise<Observed>;
  /** A stitch, and its node. */
  stitch(ref: string): Promise<Observed>;
  /** A stitch with its record, and where one more like it could go. */
  stitchToClone(ref: string, toNode: string | undefined, draw: boolean): Promise<Observed>;
  /** A stitch with its record, and where it could go. */
  stitchToMove(ref: string, toNode: string | undefined): Promise<Observed>;
  /** The members of a group, and their nodes. */
  members(group: string): Promise<Observed>;
  /** The same with their records. */
  membersWithRecords(group: string): Promise<Observed>;
  /** The same, and where they could go. */
  groupToSpread(group: string): Promise<Observed>;
  /** The members of a full group with their records, and where more of them could go. @param count how many there shall be. */
  groupToScale(group: string, count: number, draw: boolean): Promise<Observed>;
};
