import { type Command, InvalidArgumentError } from "commander";
import { carryOut } from "./carry-out.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { commandBody } from "../options/command-body.ts";
import {
  addCommandOptions,
  addHealthyOption,
  type CommandFlags,
  type HealthyFlags,
  healthyOf,
  type Mode,
} from "../options/command-options.ts";
import { confirmed } from "../terminal/confirm.ts";
import { printCreated } from "./created.ts";
import { parseDuration } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { countOf } from "../terminal/format.ts";
import { printWarnings } from "./print-warnings.ts";
import { withRetries } from "../../client/retry.ts";

const SUMMARIES = {
  ping: "ask a node to answer, through its queue",
  cordon: "let a node take no new stitches",
  uncordon: "let a node take new stitches again; ends a drain",
} as const;

type Labels = Readonly<Record<string, string | null>>;

/** `NAME=VALUE`, or `NAME-` to remove the label. */
function collectLabel(text: string, earlier: Labels = {}): Labels {
  const at = text.indexOf("=");
  const name = at === -1 && text.endsWith("-") ? text.slice(0, -1) : text.slice(0, Math.max(at, 0));
  if (name === "") throw new InvalidArgumentError("It is written NAME=VALUE, or NAME- to take the label away.");
  if (Object.hasOwn(earlier, name)) throw new InvalidArgumentError(`${name} is named twice.`);
  return Object.fromEntries([...Object.entries(earlier), [name, at === -1 ? null : text.slice(at + 1)]]);
}

/** `adopt NODE`. */
export function registerAdopt(program: Command): void {
  addClientOptions(
    program
      .command("adopt <node>")
      .description("take a node's word for its stitches, where Redis came back empty or older; prints them")
      .option("-y, --yes", "do not ask"),
  ).action(
    clientAction(async ({ client, output, signal }, node: string, flags: { readonly yes?: true }) => {
      const question = async () => {
        const { stitchCount } = await client.node(node, { signal });
        return `Accept what ${node} shows of its ${countOf(stitchCount)}? They may be copied to other nodes then.`;
      };
      if (!(await confirmed(question, flags, output))) return EXIT.error;
      const adopted = await withRetries(() => client.adoptNode(node, { signal }), signal);
      if (output.json) output.body(adopted);
      else for (const stitch of adopted.adopted) output.print(stitch);
      if (adopted.adopted.length + adopted.unknown.length === 0)
        output.note(`Nothing to adopt: every stitch of ${node} is assigned.`);
      for (const stitch of adopted.unknown)
        output.note(
          `${stitch} stays unknown: its spec is not stored, and ${node} has not offered it. ` +
            `If ${node} is alive, try again in 10 minutes; else remove the stitch, and create it anew.`,
        );
      return EXIT.done;
    }),
  );
}

/** `forget NODE`. */
export function registerForget(program: Command): void {
  addClientOptions(
    program
      .command("forget <node>")
      .description("take a dead or left node, and what Redis holds of it, out of the cluster")
      .option("-y, --yes", "do not ask"),
  ).action(
    clientAction(async ({ client, output, signal }, node: string, flags: { readonly yes?: true }) => {
      const question = async () => {
        const { liveness, stitchCount } = await client.node(node, { signal });
        return `Forget ${node}, which is ${liveness}, with its ${countOf(stitchCount)}? Their data stays on its disk.`;
      };
      if (!(await confirmed(question, flags, output))) return EXIT.error;
      await withRetries(() => client.forgetNode(node, { signal }), signal);
      return EXIT.done;
    }),
  );
}

/** `ping`, `cordon`, `uncordon`, `relabel` and `drain` of a node. */
export function registerNodeCommands(parent: Command, mode: Mode): void {
  for (const verb of ["ping", "cordon", "uncordon"] as const) {
    addCommandOptions(parent.command(`${verb} <node>`).description(SUMMARIES[verb]), mode).action(
      clientAction((context, node: string, flags: CommandFlags) =>
        carryOut(context, mode, commandBody(`node.${verb}`, node, flags), flags),
      ),
    );
  }
  registerRelabel(parent, mode);
  registerDrain(parent, mode);
}

function registerRelabel(parent: Command, mode: Mode): void {
  const relabel = parent
    .command("relabel")
    .description("set labels of a node, over those that its worker was started with; NAME- takes one away")
    .argument("<node>")
    .argument("<label...>", "NAME=VALUE, or NAME-", collectLabel);
  addCommandOptions(relabel, mode).action(
    clientAction((context, node: string, labels: Labels, flags: CommandFlags) =>
      carryOut(context, mode, commandBody("node.relabel", node, flags, { labels: { ...labels } }), flags),
    ),
  );
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
          const { stitchCount } = await client.node(node, { signal });
          return `Move ${countOf(stitchCount)} away from ${node}, and stop what cannot be moved?`;
        };
        if (mode === "carry-out" && !(await confirmed(question, flags, context.output))) return EXIT.error;
        return await carryOut(context, mode, body, flags, printCreated(context));
      },
    ),
  );
}
