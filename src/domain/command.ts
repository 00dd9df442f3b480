import type * as z from "zod";
import type { CommandName } from "./command-names.ts";
import type { CommandDefinition } from "./commands/definition.ts";
import { groupRebalance } from "./commands/group-rebalance.ts";
import { groupRemove } from "./commands/group-remove.ts";
import { groupRestart } from "./commands/group-restart.ts";
import { groupScale } from "./commands/group-scale.ts";
import { groupStart } from "./commands/group-start.ts";
import { groupStop } from "./commands/group-stop.ts";
import { groupStopOldVersions } from "./commands/group-stop-old-versions.ts";
import { nodeCordon } from "./commands/node-cordon.ts";
import { nodeDrain } from "./commands/node-drain.ts";
import { nodePing } from "./commands/node-ping.ts";
import { nodeRelabel } from "./commands/node-relabel.ts";
import { nodeUncordon } from "./commands/node-uncordon.ts";
import { stitchClone } from "./commands/stitch-clone.ts";
import { stitchCreate } from "./commands/stitch-create.ts";
import { stitchMove } from "./commands/stitch-move.ts";
import { stitchRemove } from "./commands/stitch-remove.ts";
import { stitchRestart } from "./commands/stitch-restart.ts";
import { stitchStart } from "./commands/stitch-start.ts";
import { stitchStop } from "./commands/stitch-stop.ts";

/** Every command, by name. */
export const COMMANDS = {
  "node.ping": nodePing,
  "node.cordon": nodeCordon,
  "node.uncordon": nodeUncordon,
  "node.drain": nodeDrain,
  "node.relabel": nodeRelabel,
  "stitch.create": stitchCreate,
  "stitch.start": stitchStart,
  "stitch.stop": stitchStop,
  "stitch.restart": stitchRestart,
  "stitch.remove": stitchRemove,
  "stitch.clone": stitchClone,
  "stitch.move": stitchMove,
  "group.start": groupStart,
  "group.stop": groupStop,
  "group.remove": groupRemove,
  "group.restart": groupRestart,
  "group.scale": groupScale,
  "group.rebalance": groupRebalance,
  "group.stopOldVersions": groupStopOldVersions,
} as const satisfies { readonly [Name in CommandName]: Named<Name> };

/** Of each name, the definition whose body says that very name. */
type Named<Name extends CommandName> = { readonly schema: z.ZodType<{ readonly command: Name }> };

type Schemas = { [Name in CommandName]: (typeof COMMANDS)[Name]["schema"] };

/** A checked command: every default is filled in. */
export type Command = z.output<Schemas[CommandName]>;
export type CommandOf<Name extends CommandName> = z.output<Schemas[Name]>;

/** What a command is; to be given that very command. */
export const definitionOf = ({ command }: Command): CommandDefinition<z.ZodType<Command>> => COMMANDS[command];

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
