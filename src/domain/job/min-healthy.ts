import type { Step } from "./job.ts";
import { isAddressable, type StitchSpec } from "../stitch/spec.ts";

/** A release that dies after a few seconds must not take the place of one that works. */
const REPLACING_MS = 5000;
/** What answers no heartbeat shows that it runs by being alive for so long. */
const SILENT_MS = 1000;

/** How long a stitch must have been well before its start has succeeded, where nothing else depends on it. */
export const wellForMs = (spec: StitchSpec): number => spec.minHealthyMs ?? (isAddressable(spec) ? 0 : SILENT_MS);

/** The same of one that takes the place of a stitch that is well. @param askedMs what the command says. */
export const wellBeforeReplacingMs = (
  { minHealthyMs }: { readonly minHealthyMs?: number | null | undefined },
  askedMs: number | undefined | null,
): number => askedMs ?? minHealthyMs ?? REPLACING_MS;

/** Milliseconds that a step takes at least; 0 where its plan does not know the spec. */
export function leastDurationOf(step: Step): number {
  if (step.action === "create") return step.start ? (step.minHealthyMs ?? 0) : 0;
  return step.action === "start" || step.action === "restart" ? (step.minHealthyMs ?? 0) : 0;
}
