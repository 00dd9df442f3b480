import type { Command } from "commander";
import type { EventResource } from "../../contract/event.ts";
import { addClientOptions, type ClientContext, clientAction } from "../calls/client-action.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { mustExist } from "./must-exist.ts";
import { parseLimit } from "../options/option-values.ts";
import { printFollowed } from "../follow/print-followed.ts";
import { printable } from "../../printable.ts";
import { parseSince } from "../options/since.ts";

/** How many of the newest events are shown if neither `--limit` nor `--since` is given. */
const NEWEST = 100;

type Flags = {
  readonly follow?: true;
  readonly type?: string;
  readonly node?: string;
  readonly group?: string;
  readonly since?: string;
  readonly limit?: number;
};

/** `stitch events [-f]`. */
export function registerEvents(program: Command): void {
  addClientOptions(
    program
      .command("events")
      .description("show what happened in the cluster, oldest first; -f follows it")
      .option("-f, --follow", "show events as they happen, until Ctrl-C")
      .option("--type <types>", "only these, such as node.*,job.ended")
      .option("--node <node>", "only those of this node")
      .option("--group <group>", "only those of this group")
      .option("--since <when>", "only those after an event's id, since a time, or of the last 10m", (text) =>
        parseSince(text, Date.now()),
      )
      .option(
        "--limit <n>",
        `how many to show: the newest, or with --since the first (default: ${NEWEST}, with --since all)`,
        parseLimit,
      ),
  ).action(
    clientAction((context, flags: Flags) => (flags.follow === true ? follow(context, flags) : list(context, flags))),
  );
}

async function list(context: ClientContext, { type, node, group, since, limit }: Flags): Promise<ExitCode> {
  const { client, output, signal } = context;
  const most = limit ?? (since === undefined ? NEWEST : undefined);
  const page = await client.events({ type, node, group, since, limit: most }, { signal });
  if (page.items.length === 0) await mustExist(context, { node, group });
  if (output.json) output.body(page);
  else if (page.items.length === 0) output.note("No events.");
  else for (const event of page.items) output.print(eventLine(event));
  if (page.nextCursor !== null)
    output.note(`There may be more: --limit (now ${most}), --since, --type, --node, --group.`);
  return EXIT.done;
}

async function follow(context: ClientContext, { type, node, group, since }: Flags): Promise<ExitCode> {
  const { client, output } = context;
  // A group exists as soon as it has a stitch, and the user may be waiting for the first one.
  await mustExist(context, { node });
  const onGap = (): void => output.note("Some events were missed; following from now on.");
  return await printFollowed(
    context,
    (signal) => client.followEvents({ type, node, group, since, signal, onGap }),
    eventLine,
  );
}

/** `1795424400000-0  2026-11-23T09:00:00.000Z  stitch.started  n1:orders-1  job=j… pid=123` */
export function eventLine(event: EventResource): string {
  const subject = event.stitch ?? event.node ?? event.group ?? "";
  const facts = Object.entries({ group: event.stitch === null ? null : event.group, job: event.job, ...event.data })
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return printable([event.id, event.at, event.type.padEnd(16), subject, ...facts].join("  ").trimEnd());
}
