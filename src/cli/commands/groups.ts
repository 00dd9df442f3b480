import type { Command } from "commander";
import type { GroupResource } from "../../contract/group.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { total } from "../terminal/format.ts";
import { parseLimit } from "../options/option-values.ts";

type Flags = { readonly limit?: number };

/** `stitch groups [GROUP]`. */
export function registerGroups(program: Command): void {
  addClientOptions(
    program
      .command("groups [group]")
      .description("list the groups by application and component, or show one")
      .option("--limit <n>", "how many to list (default: all)", parseLimit),
  ).action(
    clientAction(async ({ client, output, signal }, name: string | undefined, { limit }: Flags) => {
      if (name !== undefined) {
        const group = await client.group(name, { signal });
        if (output.json) output.body(group);
        else output.facts(groupRow(group));
        return EXIT.done;
      }
      const groups = await client.groups({ limit }, { signal });
      if (output.json) output.body(groups);
      else
        output.table(
          groups.items.map(groupRow),
          [
            { key: "group", title: "GROUP" },
            { key: "stitches", title: "STITCHES", align: "right" },
            { key: "versions", title: "VERSIONS" },
            { key: "states", title: "STATES" },
          ],
          "No groups.",
        );
      if (groups.nextCursor !== null) output.note(`There may be more: --limit (now ${limit}).`);
      return EXIT.done;
    }),
  );
}

function groupRow({ group, stitches: { byState, byVersion } }: GroupResource): Record<string, string> {
  return {
    group,
    stitches: String(total(byState)),
    versions: counts(byVersion),
    states: counts(byState),
  };
}

/** For example `1: 3, 2: 4`; zeros are left out. */
const counts = (of: Readonly<Record<string, number>>): string =>
  Object.entries(of)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ");
