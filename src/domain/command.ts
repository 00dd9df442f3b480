import * as z from "zod";
import { fullGroupName, groupName } from "./group.ts";
import { nodeId, stitchId, stitchRef } from "./ids.ts";
import { stitchSpec } from "./spec.ts";

/** Taken by every command, beside its own options. */
const envelope = {
  deadlineMs: z.int().min(1).max(86_400_000).default(60_000),
  waitForNode: z.boolean().default(false),
  reason: z.string().max(1000).optional(),
  dryRun: z.boolean().default(false),
  planToken: z.string().max(128).optional(),
};

const name = z.string().min(1).max(255);
export const placementOptions = z.strictObject({
  strategy: z.enum(["spread", "binpack"]).default("spread"),
  zones: z.array(name).min(1).max(100).optional(),
  labels: z.record(name, z.string().max(255)).optional(),
  maxPerNode: z.int().min(1).max(100_000).optional(),
});
export type PlacementOptions = z.output<typeof placementOptions>;

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

/** Every command, by name: its body as a client sends it. Checked bodies have every default filled in. */
export const COMMANDS = {
  "node.ping": onNode("node.ping"),
  "node.cordon": onNode("node.cordon"),
  "node.uncordon": onNode("node.uncordon"),
  "stitch.create": create.refine((body) => body.id === undefined || body.count === 1, {
    path: ["id"],
    message: "an id names one stitch: leave it out, or set count to 1",
  }),
  "stitch.start": onStitch("stitch.start"),
  "stitch.stop": onStitch("stitch.stop"),
  "stitch.restart": onStitch("stitch.restart"),
  "stitch.remove": onStitch("stitch.remove"),
  "stitch.clone": clone,
  "group.start": onGroup("group.start"),
  "group.stop": onGroup("group.stop"),
  "group.remove": onGroup("group.remove"),
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
