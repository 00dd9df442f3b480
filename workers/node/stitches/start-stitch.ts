import { wellForMs } from "../../../src/domain/job/min-healthy.ts";
import { compareRevisions } from "../../../src/domain/names/revision.ts";
import type { StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { HostedStitch } from "./hosted-stitch.ts";
import type { StepContext, StepRequest } from "./step-context.ts";
import { SUPERSEDED } from "./wait-until-well.ts";

/**
 * Starts a stitch. Resolves when the stitch has been well for as long as the step asks, or with the reason why it has not.
 * @param changed whether the step has already changed something. A newer step does not undo that change.
 * @throws WorkerLeaves
 */
export async function startStitch(
  { newestRevision }: StepContext,
  { id, step, revision, outcome }: StepRequest,
  stitch: HostedStitch,
  changed: boolean,
): Promise<StepOutcome> {
  if (compareRevisions(newestRevision(id), revision) > 0) return outcome.failed(SUPERSEDED, changed);
  const launches = !stitch.runs;
  const askedMs = "minHealthyMs" in step ? step.minHealthyMs : undefined;
  const wellMs = askedMs ?? (stitch.spec === null ? 0 : wellForMs(stitch.spec));
  const result = await stitch.start(step.timeoutMs, wellMs);
  if (!("error" in result)) return outcome.done(changed || result.changed);
  return outcome.failed(result.error, changed || (launches && result.error.code !== "superseded"));
}

/** Records the outcome of a step on its stitch. The same step sent again is answered with this outcome. */
export function recordOutcome(stitch: HostedStitch, outcome: StepOutcome): StepOutcome {
  stitch.update({ outcome });
  return outcome;
}

/** Resolves when the stitch's record is on disk. @throws if the disk does not take it; the record is then reset to `before`. */
export async function waitForDisk(
  { disk }: StepContext,
  stitch: HostedStitch,
  before: Partial<StitchRecord>,
): Promise<void> {
  try {
    await disk.written();
  } catch (error) {
    stitch.update(before);
    throw error;
  }
}
