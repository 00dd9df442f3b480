import { type Command, Option } from "commander";
import { collectList, collectPair } from "./option-values.ts";

/** The flags for where stitches may run and how several are placed, as commander parses them. */
export type PlacementFlags = {
  readonly zone?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly strategy?: "spread" | "binpack";
};

export function addPlacementOptions(command: Command): Command {
  return command
    .option("--zone <zone>", "only on nodes of this zone; may be repeated", collectList)
    .option("--label <name=value>", "only on nodes with this label; may be repeated", collectPair)
    .addOption(new Option("--strategy <strategy>", "how to place several").choices(["spread", "binpack"]));
}

/** The field `placement` of a command; no field if no flag was given. */
export function placementOf({ strategy, zone, label }: PlacementFlags) {
  const placement = {
    ...(strategy === undefined ? {} : { strategy }),
    ...(zone === undefined ? {} : { zones: [...zone] }),
    ...(label === undefined ? {} : { labels: { ...label } }),
  };
  return Object.keys(placement).length === 0 ? {} : { placement };
}
