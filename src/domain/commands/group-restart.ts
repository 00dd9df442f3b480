import * as z from "zod";
import { shouldRun, stepChain } from "../job/chains.ts";
import { RequestError } from "../errors.ts";
import { greenIn, type Observed } from "../planning/observed.ts";
import { wellBeforeReplacingMs } from "../job/min-healthy.ts";
import { type Plan, planInWaves } from "../planning/planned.ts";
import { groupName } from "../names/group.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { missedInChains, never, planAnew } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("group.restart"),
  target: groupName,
  batch: z
    .union([
      z.int().min(1).max(100_000),
      z.string().regex(/^([1-9][0-9]?|100)%$/, "must be a count, or a part such as 25%"),
    ])
    .default(1),
  timeoutMs,
  ...longEnvelope,
});
type RestartGroupCommand = z.output<typeof schema>;

/**
 * Restarts the stitches of a group that should run, one batch at a time: the next batch begins only when the last has been well
 * for a while. Stitches that are not well go first: they have the least to lose, and if a new start does not help them, the
 * rest is not tried.
 */
export const groupRestart = define({
  schema,
  scopes: ({ target }) => [target],
  observe: ({ target }, look) => look.membersWithRecords(target),
  plan: planRestart,
  retry: (job) => planAnew("group.restart", job, {}, { only: missedInChains(job) }),
  rollback: never("a restart cannot be undone"),
});

function planRestart(command: RestartGroupCommand, observed: Observed): Plan {
  const { target, batch, timeoutMs, minHealthyMs: askedMs } = command;
  if (observed.stitches.length === 0)
    throw new RequestError("not_found", `There is no stitch in the group "${target}"; GET /v1/groups lists them.`);
  const isGreen = greenIn(observed);
  const running = observed.stitches
    .filter((id) => shouldRun(observed.records.get(id) ?? { desired: "stopped", finished: false }))
    .sort((a, b) => Number(isGreen(a)) - Number(isGreen(b)) || (a < b ? -1 : 1));
  const size = batchSize(batch, running.length);
  const chains = running.map((stitch, index) => {
    const record = observed.records.get(stitch);
    const wellMs = record === undefined ? {} : { minHealthyMs: wellBeforeReplacingMs(record, askedMs) };
    return stepChain({ action: "restart", stitch, timeoutMs, ...wellMs }, Math.floor(index / size), true);
  });
  return planInWaves(chains, [target], { allOrStop: true });
}

/** The size of a batch: a count, or a part of all, at least one. */
function batchSize(batch: number | string, of: number): number {
  return typeof batch === "number" ? batch : Math.max(1, Math.floor((of * Number.parseInt(batch, 10)) / 100));
}
