import { allItems } from "../../client/all-items.ts";
import type { Client } from "../../client/client.ts";
import { waitUntil } from "../wait-until.ts";
import { NODE_COLUMNS, nodeRow } from "../nodes.ts";
import type { Output } from "../output.ts";
import { STITCH_COLUMNS, stitchRow } from "../ps.ts";

/** A node takes up its stitches again within 10 s of its start. */
const SETTLE_LIMIT_MS = 10_000;

/** Resolves when no stitch is on its way to what was asked of it any more, or after 10 s. */
export async function untilSettled(client: Client, signal: AbortSignal): Promise<void> {
  await waitUntil(
    async () => {
      const { items } = await client.stitches({ limit: 1000 }, { signal });
      return items.every(({ desired, state }) => (desired === "running") === (state === "running"));
    },
    SETTLE_LIMIT_MS,
    signal,
  );
}

/**
 * Prints the nodes and the stitches as tables.
 * @returns Redis's time at the first read: what happens later is not in the tables.
 */
export async function showTables(client: Client, output: Output, signal: AbortSignal): Promise<string> {
  const nodes = await allItems((cursor) => client.nodes({ limit: 1000, cursor }, { signal }));
  const stitches = await allItems((cursor) => client.stitches({ limit: 1000, cursor }, { signal }));
  output.print("");
  output.table(
    nodes.items.map((node) => nodeRow(node, nodes.asOf)),
    NODE_COLUMNS,
    "No nodes.",
  );
  output.print("");
  output.table(
    stitches.items.map((stitch) => stitchRow(stitch, stitches.asOf)),
    STITCH_COLUMNS,
    "No stitches.",
  );
  return nodes.asOf;
}

/** Three lines to try in another terminal. A token is named, never shown. */
export function curlLines(url: string, hasToken: boolean): string[] {
  const curl = `curl -s${hasToken ? ' -H "Authorization: Bearer $STITCH_TOKEN"' : ""}`;
  const post = (to: string, body: unknown): string =>
    `${curl} -H 'Content-Type: application/json' -d '${JSON.stringify(body)}' '${url}${to}'`;
  return [
    `${curl} ${url}/v1/nodes`,
    post("/v1/messages", { to: { stitch: "collector" }, data: "how many words?", expect: "reply" }),
    post("/v1/commands?waitMs=10000", { command: "stitch.stop", target: "n2:counter-2" }),
  ];
}
