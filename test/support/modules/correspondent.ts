// A module that writes to others and takes the messages that come (test/support/correspondence.ts).
import { fullId } from "../../../src/domain/names/ids.ts";
import type { ModuleContext, ModuleMessage } from "../../../workers/node/adaptors/module.ts";
import { Correspondence } from "../correspondence.ts";

const made = new WeakMap<ModuleContext, Correspondence>();

export function start(context: ModuleContext): void {
  const correspondence = new Correspondence({
    me: fullId(context.node, context.id),
    dataDir: context.dataDir,
    seed: Number(process.env["TEST_SEED"]),
    // `context.send` resolves when the message is stored.
    send: (to, data) =>
      context.send(to, data).then(
        () => true,
        () => false,
      ),
    ask: (stitch, data) => context.ask(stitch, data, { channel: "ask" }).then(({ from }) => from),
    crash: () => {
      setTimeout(() => {
        throw new Error("crashes");
      });
    },
  });
  made.set(context, correspondence);
  context.signal.addEventListener("abort", () => void correspondence.stop());
  correspondence.start();
}

export function message({ channel, data }: ModuleMessage, context: ModuleContext): Promise<string | undefined> {
  return made.get(context)?.take(channel, data) ?? Promise.reject(new Error("not started"));
}
