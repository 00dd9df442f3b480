import type { Command } from "commander";
import type { NodeResource } from "../../contract/node.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { formatBytes, formatPairs } from "../terminal/format.ts";
import { formatDuration } from "../terminal/duration.ts";
import { parseLimit } from "../options/option-values.ts";
import type { Column } from "../terminal/table.ts";

/** The columns of a table of nodes. */
export const NODE_COLUMNS: readonly Column[] = [
  { key: "node", title: "NODE" },
  { key: "liveness", title: "LIVENESS" },
  { key: "eligibility", title: "ELIGIBILITY" },
  { key: "zones", title: "ZONES" },
  { key: "stitches", title: "STITCHES", align: "right" },
  { key: "cpu", title: "CPU", align: "right" },
  { key: "memory", title: "MEMORY", align: "right" },
  { key: "beat", title: "LAST BEAT", align: "right" },
];

/** @param asOf the time of the read, as the API gave it. */
export function nodeRow(node: NodeResource, asOf: string): Record<string, string> {
  return {
    node: node.id,
    liveness: node.liveness,
    eligibility: node.eligibility,
    zones: node.zones.join(","),
    stitches: String(node.stitchCount),
    cpu: node.load === null ? "" : `${Math.round(node.load.cpuPercent)}%`,
    memory: node.load === null ? "" : formatBytes(node.load.memoryBytes),
    beat: `${formatDuration(Date.parse(asOf) - Date.parse(node.lastHeartbeatAt))} ago`,
  };
}

type Flags = { readonly liveness?: string; readonly zone?: string; readonly limit?: number };

/** `stitch nodes [NODE]`. */
export function registerNodes(program: Command): void {
  addClientOptions(
    program
      .command("nodes [node]")
      .description("list the nodes, or show one")
      .option("--liveness <liveness>", "only those that are alive, suspect, dead or left")
      .option("--zone <zone>", "only those of this zone")
      .option("--limit <n>", "how many to list (default: all)", parseLimit),
  ).action(
    clientAction(async ({ client, output, signal }, id: string | undefined, { liveness, zone, limit }: Flags) => {
      if (id !== undefined) {
        const node = await client.node(id, { signal });
        if (output.json) output.body(node);
        else output.facts(nodeFacts(node));
        return EXIT.done;
      }
      const nodes = await client.nodes({ liveness, zone, limit }, { signal });
      if (output.json) output.body(nodes);
      else
        output.table(
          nodes.items.map((node) => nodeRow(node, nodes.asOf)),
          NODE_COLUMNS,
          "No nodes.",
        );
      if (nodes.nextCursor !== null) output.note(`There may be more: --limit (now ${limit}), --liveness, --zone.`);
      return EXIT.done;
    }),
  );
}

function nodeFacts(node: NodeResource): Record<string, string> {
  const { capacity, reserved, load } = node;
  return {
    node: node.id,
    incarnation: String(node.incarnation),
    liveness: node.liveness,
    eligibility: node.eligibility,
    zones: node.zones.join(", "),
    labels: formatPairs(node.labels),
    modules: node.modules.join(", "),
    stitches: String(node.stitchCount),
    "cpu reserved": `${reserved.cpu} of ${capacity.cpu} cores`,
    "memory reserved": `${formatBytes(reserved.memoryBytes)} of ${formatBytes(capacity.memoryBytes)}`,
    "cpu used": load === null ? "" : `${load.cpuPercent.toFixed(1)}%`,
    "memory used": load === null ? "" : formatBytes(load.memoryBytes),
    "event-loop delay": load === null ? "" : `${load.eventLoopDelayMs.toFixed(1)} ms`,
    version: node.version,
    "started at": node.startedAt,
    "last heartbeat": node.lastHeartbeatAt,
    "observed at": node.observedAt,
  };
}
