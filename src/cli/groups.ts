import type { Command } from "commander";
import { allItems } from "../client/all-items.ts";
import type { GroupResource } from "../domain/resources.ts";
import { addClientOptions, clientAction } from "./client-action.ts";
import { EXIT } from "./exit-code.ts";
import { withRetries } from "./retry.ts";

/** `stitch groups [GROUP]`. */
export function registerGroups(program: Command): void {
  addClientOptions(
    program.command("groups [group]").description("list the groups by application and component, or show one"),
  ).action(
    clientAction(async ({ client, output, signal }, name: string | undefined) => {
      if (name !== undefined) {
        const group = await withRetries(() => client.group(name, { signal }), signal);
        if (output.json) output.body(group);
        else output.facts(groupRow(group));
        return EXIT.done;
      }
      const groups = await allItems((cursor) =>
        withRetries(() => client.groups({ limit: 1000, cursor }, { signal }), signal),
      );
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
      return EXIT.done;
    }),
  );
}

function groupRow({ group, stitches: { byState, byVersion } }: GroupResource): Record<string, string> {
  return {
    group,
    stitches: String(Object.values(byState).reduce((sum, count) => sum + count, 0)),
    versions: counts(byVersion),
    states: counts(byState),
  };
}

/** Such as `1: 3, 2: 4`; what there is none of is left out. */
const counts = (of: Readonly<Record<string, number>>): string =>
  Object.entries(of)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${name}: ${count}`)
    .join(", ");
