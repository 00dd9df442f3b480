// The parts of the bodies of commands.
import * as z from "zod";
import { groupName } from "../names/group.ts";
import { nodeId, stitchRef } from "../names/ids.ts";
import { minHealthyMs } from "../stitch/spec.ts";

const deadlineMs = z.int().min(1).max(86_400_000);

/** Why the command was given. It is kept with the job. */
export const commandReason = z.string().max(1000).optional();

/** The fields that every command takes, beside its own options. */
export const envelope = {
  deadlineMs: deadlineMs.default(60_000),
  waitForNode: z.boolean().default(false),
  reason: commandReason,
  dryRun: z.boolean().default(false),
  planToken: z.string().max(128).optional(),
};

/**
 * The envelope of commands of many steps. These commands take as long as their stitches need to come up and be well, one batch
 * after the other. Without a deadline, the plan makes one (see `deadlineOf`).
 */
export const longEnvelope = { ...envelope, deadlineMs: deadlineMs.optional(), minHealthyMs };

/** How long each stitch has to come up. */
export const timeoutMs = z.int().min(1).max(3_600_000).default(30_000);

/** The body of a command about a node, without options of its own. */
export const ofNode = <const Name extends string>(command: Name) =>
  z.strictObject({ command: z.literal(command), target: nodeId, ...envelope });

/** The same for a command about a stitch. */
export const ofStitch = <const Name extends string>(command: Name) =>
  z.strictObject({ command: z.literal(command), target: stitchRef, timeoutMs, ...envelope });

/** The same for a command about a group of one, two or three parts. */
export const ofGroup = <const Name extends string>(command: Name) =>
  z.strictObject({ command: z.literal(command), target: groupName, timeoutMs, ...envelope });
