import type { Command } from "commander";
import { carryOut } from "./carry-out.ts";
import { clientAction } from "./client-action.ts";
import { commandBody } from "./command-body.ts";
import {
  addCommandOptions,
  addHealthyOption,
  type CommandFlags,
  type HealthyFlags,
  healthyOf,
  type Mode,
} from "./command-options.ts";
import { confirmed } from "./confirm.ts";
import { printCreated } from "./created.ts";
import { parseDuration } from "./duration.ts";
import { EXIT } from "./exit-code.ts";
import { countOf } from "./format.ts";
import { printWarnings } from "./print-warnings.ts";
import { withRetries } from "./retry.ts";

const SUMMARIES = {
  ping: "ask a node to answer, through its queue",
  cordon: "let a node take no new stitches",
  uncordon: "let a node take new stitches again; ends a drain",
} as const;

/** `ping`, `cordon`, `uncordon` and `drain` of a node. */
export function registerNodeCommands(parent: Command, mode: Mode): void {
  for (const verb of ["ping", "cordon", "uncordon"] as const) {
    addCommandOptions(parent.command(`${verb} <node>`).description(SUMMARIES[verb]), mode).action(
      clientAction((context, node: string, flags: CommandFlags) =>
        carryOut(context, mode, commandBody(`node.${verb}`, node, flags), flags),
      ),
    );
  }
  registerDrain(parent, mode);
}

function registerDrain(parent: Command, mode: Mode): void {
  const drain = parent
    .command("drain <node>")
    .description("move every stitch away from a node, and let it take no new ones; prints the full ids they have now")
    .option("--force-after <duration>", "then stop what could not be moved (default: 1h)", parseDuration);
  if (mode === "carry-out") drain.option("-y, --yes", "do not ask");
  addCommandOptions(addHealthyOption(drain), mode).action(
    clientAction(
      async (context, node: string, flags: CommandFlags & HealthyFlags & { readonly forceAfter?: number }) => {
        const options = {
          ...(flags.forceAfter === undefined ? {} : { forceAfterMs: flags.forceAfter }),
          ...healthyOf(flags),
        };
        const body = commandBody("node.drain", node, flags, options);
        await printWarnings(context, mode, body);
        const question = async (): Promise<string> => {
          const { client, signal } = context;
          const { stitchCount } = await withRetries(() => client.node(node, { signal }), signal);
          return `Move ${countOf(stitchCount)} away from ${node}, and stop what cannot be moved?`;
        };
        if (mode === "carry-out" && !(await confirmed(question, flags, context.output))) return EXIT.error;
        return await carryOut(context, mode, body, flags, printCreated(context));
      },
    ),
  );
}
