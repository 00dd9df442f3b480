import type { Command } from "commander";
import type { ListedStitchResource, StitchResource } from "../../contract/stitch.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { formatDuration } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { formatBytes, formatPairs } from "../terminal/format.ts";
import { mustExist } from "./must-exist.ts";
import { namesGroup } from "../calls/names-group.ts";
import { parseLimit } from "../options/option-values.ts";
import type { Output } from "../terminal/output.ts";
import type { Column } from "../terminal/table.ts";

/** The columns of a table of stitches. */
export const STITCH_COLUMNS: readonly Column[] = [
  { key: "stitch", title: "STITCH" },
  { key: "group", title: "GROUP" },
  { key: "desired", title: "DESIRED" },
  { key: "state", title: "STATE" },
  { key: "health", title: "HEALTH" },
  { key: "pid", title: "PID", align: "right" },
  { key: "restarts", title: "RESTARTS", align: "right" },
  { key: "up", title: "UP", align: "right" },
];

/** @param asOf the time of the read, as the API gave it. */
export function stitchRow(stitch: ListedStitchResource, asOf: string): Record<string, string> {
  const runs = stitch.state === "running" && stitch.startedAt !== null;
  return {
    stitch: stitch.fullId,
    group: stitch.group,
    desired: stitch.desired,
    state: stitch.state,
    health: stitch.health ?? "",
    pid: stitch.pid === null ? "" : String(stitch.pid),
    restarts: String(stitch.restarts),
    up: runs ? formatDuration(Date.parse(asOf) - Date.parse(stitch.startedAt)) : "",
  };
}

type Flags = {
  readonly group?: true;
  readonly node?: string;
  readonly state?: string;
  readonly health?: string;
  readonly limit?: number;
};

/** `stitch ps [STITCH|GROUP]`. */
export function registerPs(program: Command): void {
  addClientOptions(
    program
      .command("ps [stitch|group]")
      .description("list the stitches, those of a group, or show one; a dot means a group")
      .option("--group", "the name is a group")
      .option("--node <node>", "only those on this node")
      .option("--state <state>", "only those in this state")
      .option("--health <health>", "only those with this health")
      .option("--limit <n>", "how many to list (default: all)", parseLimit),
  ).action(
    clientAction(async (context, name: string | undefined, flags: Flags) => {
      const { client, output, signal } = context;
      if (name !== undefined && !namesGroup(name, flags)) {
        const stitch = await client.stitch(name, { signal });
        if (output.json) output.body(stitch);
        else show(stitch, output);
        return EXIT.done;
      }
      const { node, state, health, limit } = flags;
      const stitches = await client.stitches({ group: name, node, state, health, limit }, { signal });
      if (stitches.items.length === 0) await mustExist(context, { node, group: name });
      const rows = stitches.items.map((stitch) => stitchRow(stitch, stitches.asOf));
      if (output.json) output.body(stitches);
      else output.table(rows, STITCH_COLUMNS, "No stitches.");
      if (stitches.nextCursor !== null)
        output.note(`There may be more: --limit (now ${limit}), --node, --state, --health.`);
      return EXIT.done;
    }),
  );
}

function show(stitch: StitchResource, output: Output): void {
  output.facts(stitchFacts(stitch));
  const { fullId, state } = stitch;
  if (state === "failed" || state === "backoff") output.note(`Why it is ${state}: stitch logs ${fullId}`);
}

function stitchFacts(stitch: StitchResource): Record<string, string> {
  const { lastExit, resources } = stitch;
  return {
    stitch: stitch.fullId,
    group: stitch.group,
    desired: stitch.desired,
    state: stitch.state,
    health: stitch.health ?? "",
    "healthy since": stitch.healthySince ?? "",
    pid: stitch.pid === null ? "" : String(stitch.pid),
    restarts: String(stitch.restarts),
    "started at": stitch.startedAt ?? "",
    "last exit": lastExit === null ? "" : `${lastExit.signal ?? `code ${lastExit.code}`} at ${lastExit.at}`,
    "cpu used": resources?.cpuPercent == null ? "" : `${resources.cpuPercent.toFixed(1)}%`,
    "memory used": resources === null ? "" : formatBytes(resources.memoryBytes),
    ...programFacts(stitch),
    revision: stitch.revision,
    "observed at": stitch.observedAt,
  };
}

function programFacts({ spec, specHash, node }: StitchResource): Record<string, string> {
  if (spec === null)
    return { spec: `${specHash}, which is not stored; where Redis came back empty or older: stitch adopt ${node}` };
  if (spec.adaptor === "module") return { module: spec.module };
  return { command: JSON.stringify(spec.command), cwd: spec.cwd ?? "", env: formatPairs(spec.env ?? {}) };
}
