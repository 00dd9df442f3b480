import * as z from "zod";
import { fullGroupName, groupName } from "./group.ts";
import { nodeId, stitchId, stitchRef } from "./ids.ts";
import { placementOptions } from "./placement-options.ts";
import { minHealthyMs, stitchSpec } from "./spec.ts";

const deadlineMs = z.int().min(1).max(86_400_000);

/** Why; kept with the job. */
export const commandReason = z.string().max(1000).optional();

/** Taken by every command, beside its own options. */
const envelope = {
  deadlineMs: deadlineMs.default(60_000),
  waitForNode: z.boolean().default(false),
  reason: commandReason,
  dryRun: z.boolean().default(false),
  planToken: z.string().max(128).optional(),
};

/**
 * As the envelope, of commands of many steps: they take as long as stitches take to come up and must be well, one batch after
 * the other. Without a deadline, the plan makes one (see `deadlineOf`).
 */
const longEnvelope = { ...envelope, deadlineMs: deadlineMs.optional(), minHealthyMs };

/** How long each stitch has to come up. */
const timeoutMs = z.int().min(1).max(3_600_000).default(30_000);

const onNode = <const Name extends string>(command: Name) =>
  z.strictObject({ command: z.literal(command), target: nodeId, ...envelope });

const onStitch = <const Name extends string>(command: Name) =>
  z.strictObject({
    command: z.literal(command),
    target: stitchRef,
    timeoutMs,
    ...envelope,
  });

const onGroup = <const Name extends string>(command: Name) =>
  z.strictObject({ command: z.literal(command), target: groupName, timeoutMs, ...envelope });

const create = z.strictObject({
  command: z.literal("stitch.create"),
  target: fullGroupName,
  spec: stitchSpec,
  count: z.int().min(1).max(1000).default(1),
  node: nodeId.optional(),
  id: stitchId.optional(),
  placement: placementOptions.prefault({}),
  start: z.boolean().default(true),
  timeoutMs,
  ...envelope,
});

const clone = z.strictObject({
  command: z.literal("stitch.clone"),
  target: stitchRef,
  toNode: nodeId.optional(),
  timeoutMs,
  ...envelope,
});

const move = z.strictObject({
  command: z.literal("stitch.move"),
  target: stitchRef,
  toNode: nodeId.optional(),
  timeoutMs,
  ...longEnvelope,
});

const restartGroup = z.strictObject({
  command: z.literal("group.restart"),
  target: groupName,
  batch: z
    .union([
      z.int().min(1).max(100_000),
      z.string().regex(/^([1-9][0-9]?|100)%$/, "must be a count, or a part such as 25%"),
    ])
    .default(1),
  timeoutMs,
  ...longEnvelope,
});

const scale = z.strictObject({
  command: z.literal("group.scale"),
  target: fullGroupName,
  count: z.int().min(0).max(10_000),
  placement: placementOptions.optional(),
  timeoutMs,
  ...longEnvelope,
});

const rebalance = z.strictObject({
  command: z.literal("group.rebalance"),
  target: groupName,
  maxMoves: z.int().min(0).max(10_000).optional(),
  timeoutMs,
  ...longEnvelope,
});

const stopOldVersions = z.strictObject({
  command: z.literal("group.stopOldVersions"),
  target: fullGroupName,
  timeoutMs,
  force: z.boolean().default(false),
  ...longEnvelope,
});

const forceAfterMs = z.int().min(0).max(86_400_000).default(3_600_000);
const drain = z.strictObject({
  command: z.literal("node.drain"),
  target: nodeId,
  forceAfterMs,
  timeoutMs,
  ...longEnvelope,
});

/** Every command, by name: its body as a client sends it. Checked bodies have every default filled in. */
export const COMMANDS = {
  "node.ping": onNode("node.ping"),
  "node.cordon": onNode("node.cordon"),
  "node.uncordon": onNode("node.uncordon"),
  "node.drain": drain,
  "stitch.create": create.refine((body) => body.id === undefined || body.count === 1, {
    path: ["id"],
    message: "an id names one stitch: leave it out, or set count to 1",
  }),
  "stitch.start": onStitch("stitch.start"),
  "stitch.stop": onStitch("stitch.stop"),
  "stitch.restart": onStitch("stitch.restart"),
  "stitch.remove": onStitch("stitch.remove"),
  "stitch.clone": clone,
  "stitch.move": move,
  "group.start": onGroup("group.start"),
  "group.stop": onGroup("group.stop"),
  "group.remove": onGroup("group.remove"),
  "group.restart": restartGroup,
  "group.scale": scale,
  "group.rebalance": rebalance,
  "group.stopOldVersions": stopOldVersions,
} as const;

export type CommandName = keyof typeof COMMANDS;
export type Command = z.output<(typeof COMMANDS)[CommandName]>;
export type CreateCommand = z.output<typeof create>;
export type CloneCommand = z.output<typeof clone>;
export type StitchCommand = Extract<
  Command,
  { command: "stitch.start" | "stitch.stop" | "stitch.restart" | "stitch.remove" }
>;
export type GroupCommand = Extract<Command, { command: "group.start" | "group.stop" | "group.remove" }>;
export type MoveCommand = z.output<typeof move>;
export type RestartGroupCommand = z.output<typeof restartGroup>;
export type ScaleCommand = z.output<typeof scale>;
export type RebalanceCommand = z.output<typeof rebalance>;
export type StopOldVersionsCommand = z.output<typeof stopOldVersions>;
export type DrainCommand = z.output<typeof drain>;
/** Commands that are carried out wave after wave, each a durable job of its own kind (see `advance`). */
export type OrchestratedCommand =
  | MoveCommand
  | RestartGroupCommand
  | ScaleCommand
  | RebalanceCommand
  | StopOldVersionsCommand
  | DrainCommand;
export type NodeCommand = Extract<Command, { command: "node.ping" | "node.cordon" | "node.uncordon" }>;

export const isCommandName = (text: string): text is CommandName => Object.hasOwn(COMMANDS, text);

/** The command's own options, defaults included: what a job shows, and nothing of the envelope. */
export function commandOptions(command: Command): Record<string, unknown> {
  const {
    command: _,
    target: __,
    deadlineMs: ___,
    waitForNode,
    reason: ____,
    dryRun: _____,
    planToken: ______,
    ...own
  } = command;
  return { ...own, ...(waitForNode ? { waitForNode } : {}) };
}
