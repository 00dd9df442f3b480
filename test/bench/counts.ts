import { Queue } from "bullmq";
import { Redis } from "ioredis";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { TestCluster } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { table, times } from "./stats.ts";

const NODES = ["n1", "n2", "n3"];
const STITCHES = 300;
const KIBS = [1, 48];
const LIMIT_MS = 60_000;

/** What Redis has received, sent and executed, and the memory that it holds. */
type Counted = {
  readonly inBytes: number;
  readonly outBytes: number;
  readonly commands: number;
  readonly held: number;
};

/**
 * What commands over 300 stitches on three nodes cost Redis per step, for a small spec and a large one: bytes sent to it and by
 * it, commands, and the memory that stays. The baseline is BullMQ with a job for each stitch, which carries its spec. The
 * figures are counts, so one round is enough.
 */
export async function counts({ redisUrl, print, atEnd }: Bench): Promise<void> {
  const redis = new Redis(redisUrl);
  atEnd(async () => redis.disconnect());
  const cluster = new TestCluster(redisUrl, { STITCH_HEARTBEAT_MS: "10000" });
  atEnd(() => cluster.stop());
  await cluster.start();
  await Promise.all(NODES.map((id) => cluster.node(id)));
  const count = async (): Promise<Counted> => {
    const info = await redis.info();
    const figure = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1]);
    return {
      inBytes: figure("total_net_input_bytes"),
      outBytes: figure("total_net_output_bytes"),
      commands: figure("total_commands_processed"),
      held: figure("used_memory"),
    };
  };
  const costOf = async (steps: number, work: () => Promise<unknown>): Promise<Counted> => {
    const before = await count();
    await work();
    const after = await count();
    const ofStep = (name: keyof Counted) => (after[name] - before[name]) / steps;
    return {
      inBytes: ofStep("inBytes"),
      outBytes: ofStep("outBytes"),
      commands: ofStep("commands"),
      held: ofStep("held"),
    };
  };
  const run = async (name: CommandName, target: string, more: Record<string, unknown> = {}): Promise<void> => {
    const job = await cluster.run({ command: name, target, ...more }, null, LIMIT_MS);
    if (job.status !== "succeeded") throw new Error(`${name}: ${job.status} ${JSON.stringify(job.error)}`);
  };

  const rows = [["a step", "bytes in", "ratio", "bytes out", "commands", "bytes held", "ratio"]];
  for (const kib of KIBS) {
    const env = Object.fromEntries(Array.from({ length: kib }, (_, index) => [`V${index}`, "v".repeat(1000)]));
    const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"], env };
    const target = `bench.counts.${kib}`;
    const connection = { host: "127.0.0.1", port: Number(new URL(redisUrl).port) };
    const queue = new Queue(`raw-${kib}`, { connection });
    await queue.waitUntilReady();
    const jobs = Array.from({ length: STITCHES }, (_, index) => ({
      name: "create",
      data: { stitch: `s${index}`, spec },
    }));
    const raw = await costOf(STITCHES, () => queue.addBulk(jobs));
    await queue.obliterate({ force: true });
    await queue.close();
    const row = (what: string, cost: Counted) =>
      rows.push([
        `${what}, ${kib} KiB`,
        cost.inBytes.toFixed(0),
        times(cost.inBytes / raw.inBytes),
        cost.outBytes.toFixed(0),
        cost.commands.toFixed(1),
        cost.held.toFixed(0),
        times(cost.held / raw.held),
      ]);
    row("addBulk", raw);
    row(
      "stitch.create",
      await costOf(STITCHES, () => run("stitch.create", target, { count: STITCHES, spec, start: false })),
    );
    row("group.stop", await costOf(STITCHES, () => run("group.stop", target)));
    row(
      "group.scale",
      await costOf(STITCHES, () => run("group.scale", target, { count: 2 * STITCHES, minHealthyMs: 0 })),
    );
    row("group.remove", await costOf(2 * STITCHES, () => run("group.remove", target)));
  }
  print(table(rows));
}
