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
 * Everything about one command, in a file of its own; `command.ts` has all of them. To add a command, add its name to
 * `command-names.ts`: then the compiler says what is missing.
 */
export type CommandDefinition<Schema extends z.ZodType<AnyBody>> = {
  /** Its body as a client sends it. A checked body has every default filled in. */
  readonly schema: Schema;
  /**
   * Reads what its plan is made from.
   * @param draw true: take the numbers of new stitches from the component's counter. false: only read the counter (a dry run).
   */
  readonly observe: (command: z.output<Schema>, look: Look, draw: boolean) => Promise<Observed>;
  /** See `planCommand`. */
  readonly plan: (command: z.output<Schema>, observed: Observed) => Plan;
  /** Repeats the parts of a job of this command that did not succeed (at least one did not). */
  readonly retry: (job: FinishedJob) => Next;
  /** Takes a job of this command back. @throws RequestError `not_reversible`, with the reason. */
  readonly rollback: (job: FinishedJob) => Next;

  // Most commands have none of the following.
  /** Are the ids of new stitches drawn from a counter, so that two otherwise equal plans may differ in these ids? */
  readonly drawsIds?: (command: z.output<Schema>) => boolean;
  /**
   * The scopes of its plan, as far as they can be known before the plan is made: they are taken first, so that nothing that the plan is
   * made from is read twice. Those that it leaves out are taken after the first plan, and then all is read again.
   */
  readonly scopes?: (command: z.output<Schema>, look: Look) => readonly string[] | Promise<readonly string[]>;
  /** The command draws ids only for the plan that is carried out: once the job holds its scope. */
  readonly drawsOnceHeld?: true;
  /** How long its own options let the command take, in milliseconds, beside what its stitches take. */
  readonly mayTakeMs?: (command: z.output<Schema>) => number;
  /**
   * Changes the plan of a retry, which is planned anew.
   * @param notUp stitches of the first job that exist, and did not come up.
   */
  readonly planRetry?: (command: z.output<Schema>, plan: Plan, notUp: ReadonlySet<string>, observed: Observed) => Plan;
  /** The event to emit when the job has succeeded, beside the event for the end of the job. */
  readonly succeeded?: (target: string) => ClusterEvent;
};

/** Makes the compiler check a definition, and keeps the type of its body. */
export const define = <Schema extends z.ZodType<AnyBody>>(
  definition: CommandDefinition<Schema>,
): CommandDefinition<Schema> => definition;

/**
 * Reads what commands are planned from, in as few round trips as possible. A record that cannot be read is left out if many
 * are read; it is an error if the command names the record.
 */
export type Look = {
  /** A node. */
  node(id: string): Promise<Observed>;
  /** A node, its stitches, and where they could go. */
  nodeToEmpty(id: string): Promise<Observed>;
  /** Where new stitches of a group could go. `node`, `id`: set if the command names them. */
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
  /** The group that Masters have assigned a stitch to, and its full id; null if it is not exactly one, or not known. */
  placeOf(ref: string): Promise<{ readonly id: string; readonly group: string } | null>;
  /** The groups of the stitches on a node. */
  groupsOn(node: string): Promise<readonly string[]>;
  /** A stitch, and its node. */
  stitch(ref: string): Promise<Observed>;
  /** A stitch with its record, and where one more like it could go. */
  stitchToClone(ref: string, toNode: string | undefined, draw: boolean): Promise<Observed>;
  /** A stitch with its record, and where it could go. */
  stitchToMove(ref: string, toNode: string | undefined): Promise<Observed>;
  /** The members of a group, and their nodes. */
  members(group: string): Promise<Observed>;
  /** The members of a group with their records, and their nodes. */
  membersWithRecords(group: string): Promise<Observed>;
  /** The members of a group with their records, their nodes, and where the members could go. */
  groupToSpread(group: string): Promise<Observed>;
  /** The members of a full group with their records, and where more of them could go. @param count how many there should be. */
  groupToScale(group: string, count: number, draw: boolean): Promise<Observed>;
};
