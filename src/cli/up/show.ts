import type { Client } from "../../client/client.ts";
import type { ListedStitchResource } from "../../contract/stitch.ts";
import { waitUntil } from "../processes/wait-until.ts";
import { NODE_COLUMNS, nodeRow } from "../commands/nodes.ts";
import type { Output } from "../terminal/output.ts";
import { STITCH_COLUMNS, stitchRow } from "../commands/ps.ts";

/** A node takes up its stitches again within 10 s of its start. */
const SETTLE_LIMIT_MS = 10_000;

/** @returns whether no stitch is on its way any more, to what was asked of it or from it; after 10 s at the latest. */
export function untilSettled(client: Pick<Client, "stitches">, signal: AbortSignal): Promise<boolean> {
  return waitUntil(
    async () => {
      const { items } = await client.stitches({}, { signal });
      return !items.some(isOnItsWay);
    },
    SETTLE_LIMIT_MS,
    signal,
  );
}

function isOnItsWay({ desired, state, finished }: ListedStitchResource): boolean {
  // One that has finished its work stays so; any other is taken up as soon as its node has registered.
  if (state === "stopped") return desired === "running" && !finished;
  if (state === "running") return desired === "stopped";
  return state === "starting" || state === "stopping" || state === "backoff";
}

/**
 * Prints the nodes and the stitches as tables.
 * @returns Redis's time at the first read: what happens later is not in the tables.
 */
export async function showTables(client: Client, output: Output, signal: AbortSignal): Promise<string> {
  const nodes = await client.nodes({}, { signal });
  const stitches = await client.stitches({}, { signal });
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
