import type { Step } from "./job.ts";
import { hasCheck, isAddressable, type StitchSpec } from "../stitch/spec.ts";

/** A release that dies after a few seconds must not take the place of one that works. */
const REPLACING_MS = 5000;
/** A stitch that answers no heartbeats, and has no check, shows that it runs by living for this long. */
const SILENT_MS = 1000;

/** How long a stitch must have been well before its start has succeeded, if nothing else depends on it. */
export const wellForMs = (spec: StitchSpec): number => spec.minHealthyMs ?? (isSilent(spec) ? SILENT_MS : 0);

/** Does nothing tell that the stitch is well, but that it lives? */
const isSilent = (spec: StitchSpec): boolean => !isAddressable(spec) && !hasCheck(spec);

/** The same for a stitch that takes the place of a well one. @param askedMs what the command says. */
export const wellBeforeReplacingMs = (
  { minHealthyMs }: { readonly minHealthyMs?: number | null | undefined },
  askedMs: number | undefined | null,
): number => askedMs ?? minHealthyMs ?? REPLACING_MS;

/** The least time a step takes, in milliseconds; 0 if its plan does not know the spec. */
export function leastDurationOf(step: Step): number {
  if (step.action === "create") return step.start ? (step.minHealthyMs ?? 0) : 0;
  return step.action === "start" || step.action === "restart" ? (step.minHealthyMs ?? 0) : 0;
}
