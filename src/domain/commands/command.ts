import type * as z from "zod";
import type { CommandName } from "./command-names.ts";
import type { CommandDefinition } from "./definition.ts";
import { groupRebalance } from "./group-rebalance.ts";
import { groupRemove } from "./group-remove.ts";
import { groupRestart } from "./group-restart.ts";
import { groupScale } from "./group-scale.ts";
import { groupStart } from "./group-start.ts";
import { groupStop } from "./group-stop.ts";
import { groupStopOldVersions } from "./group-stop-old-versions.ts";
import { nodeCordon } from "./node-cordon.ts";
import { nodeDrain } from "./node-drain.ts";
import { nodePing } from "./node-ping.ts";
import { nodeRelabel } from "./node-relabel.ts";
import { nodeUncordon } from "./node-uncordon.ts";
import { stitchClone } from "./stitch-clone.ts";
import { stitchCreate } from "./stitch-create.ts";
import { stitchMove } from "./stitch-move.ts";
import { stitchRemove } from "./stitch-remove.ts";
import { stitchRestart } from "./stitch-restart.ts";
import { stitchStart } from "./stitch-start.ts";
import { stitchStop } from "./stitch-stop.ts";

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

/** For each name: the definition whose body has the same name. */
type Named<Name extends CommandName> = { readonly schema: z.ZodType<{ readonly command: Name }> };

type Schemas = { [Name in CommandName]: (typeof COMMANDS)[Name]["schema"] };

/** A checked command: every default is filled in. */
export type Command = z.output<Schemas[CommandName]>;
export type CommandOf<Name extends CommandName> = z.output<Schemas[Name]>;

/** The definition of a command. Give its functions only this same command. */
export const definitionOf = ({ command }: Command): CommandDefinition<z.ZodType<Command>> => COMMANDS[command];

/** The command's own options with defaults, as a job shows them: of the envelope only `waitForNode`, if it is true. */
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
