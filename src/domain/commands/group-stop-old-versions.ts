import * as z from "zod";
import { shouldRun, stepChain } from "../job/chains.ts";
import { RequestError } from "../errors.ts";
import { fullGroupName, parseFullGroup } from "../names/group.ts";
import type { Observed } from "../planning/observed.ts";
import { type Plan, planInWaves } from "../planning/planned.ts";
import type { StitchRecord } from "../stitch/stitch.ts";
import { longEnvelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, planAnew, takeBack } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("group.stopOldVersions"),
  target: fullGroupName,
  timeoutMs,
  force: z.boolean().default(false),
  ...longEnvelope,
});
type StopOldVersionsCommand = z.output<typeof schema>;

/**
 * Stops the older versions of a component, once this version has as many well stitches as the older versions have stitches that
 * should run. To stop them sooner is an outage: a version that is not up serves nobody.
 */
export const groupStopOldVersions = define({
  schema,
  // All versions of the component.
  observe: ({ target }, look) => look.membersWithRecords(target.split(".").slice(0, 2).join(".")),
  plan: planStopOldVersions,
  retry: (job) => planAnew("group.stopOldVersions", job),
  rollback: (job) => takeBack("group.start", "start", changedBy(job), job),
});

function planStopOldVersions(command: StopOldVersionsCommand, observed: Observed): Plan {
  const { target, timeoutMs, minHealthyMs = null, force } = command;
  const old = olderThan(target, observed);
  const chains = old.map(([stitch, { born }]) => stepChain({ action: "stop", stitch, timeoutMs, born }, 0, false));
  const atLeast = old.filter(([, record]) => shouldRun(record)).length;
  const byMs = observed.nowMs + timeoutMs;
  const replacement = force || atLeast === 0 ? null : { group: target, atLeast, minHealthyMs, byMs };
  return planInWaves(chains, [], { replacement });
}

/** Versions as people count them: `2` before `10`, `1-9` before `1-10`. */
const VERSIONS = new Intl.Collator("en", { numeric: true });

/** The stitches of older versions. @throws RequestError `not_found` if the version itself has no stitch. */
function olderThan(group: string, { stitches, records }: Observed): [string, StitchRecord][] {
  const version = parseFullGroup(group)?.version ?? "";
  const all = stitches.flatMap((id): [string, StitchRecord][] => {
    const record = records.get(id);
    return record === undefined ? [] : [[id, record]];
  });
  if (!all.some(([, record]) => record.group === group))
    throw new RequestError("not_found", `There is no stitch of "${group}"; start the new version first.`);
  return all.filter(([, record]) => {
    const other = parseFullGroup(record.group)?.version;
    return other !== undefined && VERSIONS.compare(other, version) < 0;
  });
}
