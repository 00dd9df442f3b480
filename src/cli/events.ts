import type { Command } from "commander";
import type { EventResource } from "../domain/resources.ts";
import { addClientOptions, type ClientContext, clientAction } from "./client-action.ts";
import { EXIT, type ExitCode } from "./exit-code.ts";
import { Interrupted } from "./interrupted.ts";
import { withRetries } from "./retry.ts";
import { printable } from "./table.ts";

type Flags = {
  readonly follow?: true;
  readonly type?: string;
  readonly node?: string;
  readonly group?: string;
  readonly since?: string;
};

/** `stitch events [-f]`. */
export function registerEvents(program: Command): void {
  addClientOptions(
    program
      .command("events")
      .description("show what happened in the cluster; -f follows it")
      .option("-f, --follow", "show events as they happen, until Ctrl-C")
      .option("--type <types>", "only these, such as node.*,job.ended")
      .option("--node <node>", "only those of this node")
      .option("--group <group>", "only those of this group")
      .option("--since <id>", "only those after this event's id"),
  ).action(
    clientAction(async (context, flags: Flags) => {
      if (flags.follow === true) return await follow(context, flags);
      const { client, output, signal } = context;
      const { type, node, group, since } = flags;
      const page = await withRetries(() => client.events({ type, node, group, since }, { signal }), signal);
      if (output.json) output.body(page);
      else for (const event of page.items) output.print(eventLine(event));
      return EXIT.done;
    }),
  );
}

async function follow({ client, output, signal }: ClientContext, flags: Flags): Promise<ExitCode> {
  const { type, node, group, since } = flags;
  const onGap = (): void => output.note("Some events were missed; following from now on.");
  try {
    for await (const event of client.followEvents({ type, node, group, since, signal, onGap })) {
      if (output.json) output.body(event);
      else output.print(eventLine(event));
    }
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
  }
  return EXIT.interrupted;
}

/** `2026-11-23T09:00:00.000Z  stitch.started  n1:orders-1  job=j… pid=123` */
export function eventLine(event: EventResource): string {
  const subject = event.stitch ?? event.node ?? event.group ?? "";
  const facts = Object.entries({ group: event.stitch === null ? null : event.group, job: event.job, ...event.data })
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return printable([event.at, event.type.padEnd(16), subject, ...facts].join("  ").trimEnd());
}
