import type { Command } from "commander";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { modeText } from "./masters.ts";

/** `stitch status`: the cluster in a few lines. */
export function registerStatus(program: Command): void {
  addClientOptions(
    program.command("status").description("show the cluster: nodes, stitches, open jobs, masters"),
  ).action(
    clientAction(async ({ client, output, signal }) => {
      const cluster = await client.cluster({ signal });
      if (output.json) {
        output.body(cluster);
        return EXIT.done;
      }
      output.facts({
        cluster: cluster.name,
        nodes: counts(cluster.nodes),
        stitches: counts(cluster.stitches),
        "open jobs": String(cluster.openJobs),
        masters: cluster.masters.map(({ id }) => id).join(", "),
        mode: modeText(cluster),
        frozen: cluster.frozen ? "yes: nothing is moved until most nodes are back" : "no",
        version: cluster.version,
        "as of": cluster.asOf,
      });
      return EXIT.done;
    }),
  );
}

/** `3 alive, 1 dead`; zeros are left out. */
function counts(byName: Readonly<Record<string, number>>): string {
  const some = Object.entries(byName).filter(([, count]) => count > 0);
  return some.map(([name, count]) => `${count} ${name}`).join(", ") || "none";
}
