import * as z from "zod";
import { shouldRun, stepChain } from "../job/chains.ts";
import { specUnknown } from "../job/assignment.ts";
import { RequestError } from "../errors.ts";
import { splitFullId } from "../names/ids.ts";
import { candidatesFor, greenIn, type Observed, type Template } from "../planning/observed.ts";
import { wellForMs } from "../job/min-healthy.ts";
import { fullness, place } from "../placement/placement.ts";
import { infeasible, newIds, type Plan, planInWaves } from "../planning/planned.ts";
import { compareRevisions, parseRevision } from "../names/revision.ts";
import { fullGroupName } from "../names/group.ts";
import { placementOptions } from "../stitch/placement-options.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, missedInChains, type Next, notReversible, planAnew } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("group.scale"),
  target: fullGroupName,
  count: z.int().min(0).max(10_000),
  placement: placementOptions.optional(),
  timeoutMs,
  ...longEnvelope,
});
type ScaleCommand = z.output<typeof schema>;

/** Brings a group to a number of stitches: creates what is missing, or removes what is too many. */
export const groupScale = define({
  schema,
  scopes: ({ target }) => [target],
  observe: ({ target, count }, look, draw) => look.groupToScale(target, count, draw),
  plan: planScale,
  // The count alone does not say which stitches failed, so those that did not come up are named.
  retry: (job) =>
    planAnew("group.scale", job, {}, { notUp: missedInChains(job).filter(({ action }) => action !== "remove") }),
  rollback: (job): Next => {
    const count = job.record.orchestration?.formerCount;
    if (count == null || changedBy(job).length === 0) throw notReversible("it changed nothing");
    return planAnew("group.scale", job, { count });
  },
  drawsIds: () => true,
  drawsOnceHeld: true,
  planRetry,
});

/** Starts the stitches that did not come up, if the plan leaves them in the group. */
function planRetry(
  { timeoutMs: startMs }: ScaleCommand,
  plan: Plan,
  notUp: ReadonlySet<string>,
  observed: Observed,
): Plan {
  if (plan.orchestration === null) return plan;
  const { chains } = plan.orchestration;
  const goes = new Set(chains.map(({ stitch }) => stitch));
  const starts = observed.stitches.flatMap((stitch) => {
    const born = observed.records.get(stitch)?.born;
    if (born === undefined || !notUp.has(stitch) || goes.has(stitch)) return [];
    return [stepChain({ action: "start", stitch, timeoutMs: startMs, born }, 0, false)];
  });
  return { ...plan, orchestration: { ...plan.orchestration, chains: [...chains, ...starts] } };
}

function planScale(command: ScaleCommand, observed: Observed): Plan {
  const { target, count } = command;
  const formerCount = observed.stitches.length;
  if (count < formerCount) {
    const { timeoutMs } = command;
    const chains = toRemove(formerCount - count, target, observed).map((stitch) => {
      const born = observed.records.get(stitch)?.born;
      return stepChain({ action: "remove", stitch, timeoutMs, ...(born === undefined ? {} : { born }) }, 0, false);
    });
    return planInWaves(chains, [target], { formerCount });
  }
  if (count === formerCount) return planInWaves([], [target], { formerCount });
  return planMore(command, count - formerCount, observed);
}

function planMore(
  { target, placement: asked, timeoutMs, minHealthyMs }: ScaleCommand,
  more: number,
  observed: Observed,
): Plan {
  const template = templateOf(target, observed);
  if (template === null) throw noTemplate(target, observed);
  const { spec, specHash } = template;
  const placement = asked ?? template.placement;
  const { placed, refusals } = place(candidatesFor(observed, target), spec, placement, more);
  if (placed === null) return infeasible(refusals);
  const ids = newIds(
    target,
    placed.map(({ node }) => node),
    observed,
  );
  const wellMs = minHealthyMs ?? wellForMs(spec);
  const chains = ids.map((stitch) =>
    stepChain(
      { action: "create", stitch, group: target, specHash, start: true, timeoutMs, minHealthyMs: wellMs, placement },
      0,
      false,
    ),
  );
  const placements = placed.map(({ node, reason }, index) => ({ stitch: ids[index] ?? "", node, reason }));
  return planInWaves(chains, [target], { formerCount: observed.stitches.length }, { placements, refusals });
}

/** What the group's last create asked for; else what Masters have assigned for the newest stitch of the group. */
function templateOf(target: string, { template, assigned }: Observed): Template | null {
  if (template !== null) return template;
  const ofGroup = [...assigned.values()].filter(({ group }) => group === target);
  const [newest] = ofGroup.sort((a, b) => compareRevisions(parseRevision(b.placed), parseRevision(a.placed)));
  return newest ?? null;
}

const noTemplate = (group: string, { stitches: [first] }: Observed): RequestError =>
  first === undefined
    ? new RequestError(
        "no_template",
        `Nobody remembers what a stitch of "${group}" is; create the first one with stitch.create.`,
      )
    : specUnknown(first);

/**
 * The stitches to remove. Stitches that are not well come first. Then each next stitch is taken from the node that has the most
 * members of the group; if several nodes have equally many, from the fullest of them. Ties that are left: the last id.
 */
function toRemove(many: number, group: string, observed: Observed): string[] {
  const nodes = new Map(candidatesFor(observed, group).map((node) => [node.id, node]));
  const well = wellIn(observed);
  const perNode = new Map<string, number>();
  for (const id of observed.stitches) {
    const { node } = splitFullId(id);
    perNode.set(node, (perNode.get(node) ?? 0) + 1);
  }
  const full = (id: string) => {
    const node = nodes.get(id);
    return node === undefined ? 0 : fullness(node);
  };
  const rank = (id: string) => {
    const { node } = splitFullId(id);
    return [Number(well.has(id)), -(perNode.get(node) ?? 0), -full(node)] as const;
  };
  const left = new Set(observed.stitches);
  const gone: string[] = [];
  while (gone.length < many) {
    const next = [...left].reduce((best, id) => (before(id, rank(id), best, rank(best)) ? id : best));
    left.delete(next);
    gone.push(next);
    const { node } = splitFullId(next);
    perNode.set(node, (perNode.get(node) ?? 1) - 1);
  }
  return gone;
}

type Rank = readonly [well: number, members: number, full: number];

function before(a: string, rankA: Rank, b: string, rankB: Rank): boolean {
  const difference = rankA[0] - rankB[0] || rankA[1] - rankB[1] || rankA[2] - rankB[2];
  return difference === 0 ? a > b : difference < 0;
}

function wellIn(observed: Observed): ReadonlySet<string> {
  const isGreen = greenIn(observed);
  const well = [...observed.records].filter(([id, record]) => shouldRun(record) && isGreen(id));
  return new Set(well.map(([id]) => id));
}
