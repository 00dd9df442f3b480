import type { Command } from "commander";
import { endWith } from "./terminal/end-with.ts";
import { Output } from "./terminal/output.ts";
import { runUnderInit } from "./commands/init.ts";

/** `stitch up [--reset] [--watch]`. */
export function registerUp(program: Command): void {
  program
    .command("up")
    .description("start a cluster on this machine: Redis if needed, API, master, three nodes, samples")
    .option("--reset", "forget what is kept in .crossstitch first")
    .option("--watch", "start each part again when its code changes, to work on CrossStitch itself")
    .action(async ({ reset = false, watch = false }: { readonly reset?: boolean; readonly watch?: boolean }) => {
      runUnderInit();
      const { runUp } = await import("./up/run-up.ts");
      endWith(await runUp(new Output(process.stdout, process.stderr, false), { reset, watch }));
    });
}
