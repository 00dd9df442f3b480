/** The names of all commands. Each command has a file of its own in `commands/`. */
export const COMMAND_NAMES = [
  "node.ping",
  "node.cordon",
  "node.uncordon",
  "node.drain",
  "node.relabel",
  "stitch.create",
  "stitch.start",
  "stitch.stop",
  "stitch.restart",
  "stitch.remove",
  "stitch.clone",
  "stitch.move",
  "group.start",
  "group.stop",
  "group.remove",
  "group.restart",
  "group.scale",
  "group.rebalance",
  "group.stopOldVersions",
] as const;
export type CommandName = (typeof COMMAND_NAMES)[number];

const names: ReadonlySet<string> = new Set(COMMAND_NAMES);
export const isCommandName = (text: string): text is CommandName => names.has(text);
