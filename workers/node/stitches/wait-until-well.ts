import { LATE, orLate } from "../../../src/bounded-wait.ts";
import type { StepError } from "../../../src/domain/stitch/stitch.ts";
import type { StitchInstance } from "../protocol/adaptor.ts";
import { exitText } from "./after-exit.ts";
import type { KeptRecord } from "./kept-record.ts";

export const SUPERSEDED: StepError = { code: "superseded", message: "a newer command came before it was up" };

type WaitOptions = {
  readonly record: KeptRecord;
  readonly instance: StitchInstance;
  /** Is `instance` still the running one? */
  readonly isCurrent: () => boolean;
  /** How long the stitch must be well without a break. */
  readonly minHealthyMs: number;
  /** How long the stitch may take to come up, and then how much longer than `minHealthyMs` it may take to be well. */
  readonly timeoutMs: number;
  /** Resolves when a newer step waits. */
  readonly interrupted: Promise<void>;
  readonly nowMs: () => number;
};

/**
 * Waits until a run is up and has been well for `minHealthyMs` without a break.
 * @returns the reason why it is not; null if it is, or if it has run to its end as its restart policy allows.
 */
export async function waitUntilWell(options: WaitOptions): Promise<StepError | null> {
  const { instance, timeoutMs, interrupted } = options;
  const up = Promise.race([
    instance.started.then((started) => (started.kind === "failed" ? started.error : null)),
    interrupted.then(() => SUPERSEDED),
  ]);
  const notUp = await orLate<StepError | null>(up, timeoutMs);
  if (notUp === LATE) {
    const why = instance.notUpBecause ?? null;
    const message = `it was not up after ${timeoutMs} ms${why === null ? "" : `: ${why}`}`;
    return { code: "start_timeout", message };
  }
  return notUp ?? waitWhileUp(options);
}

async function waitWhileUp(options: WaitOptions): Promise<StepError | null> {
  const { record, instance, isCurrent, minHealthyMs, timeoutMs, interrupted } = options;
  if (minHealthyMs === 0) return null;
  const untilMs = options.nowMs() + minHealthyMs + timeoutMs;
  for (;;) {
    const nowMs = options.nowMs();
    if (!isCurrent()) return record.current.finished ? null : endedTooSoon(instance, minHealthyMs);
    const { healthySinceMs } = record.current;
    const wellAtMs = healthySinceMs === null ? Number.POSITIVE_INFINITY : healthySinceMs + minHealthyMs;
    if (nowMs >= wellAtMs) return null;
    if (nowMs >= untilMs)
      return { code: "unhealthy", message: `it came up, and was not well for ${minHealthyMs} ms without a break` };
    const isInterrupted = Promise.race([record.stateChanged.then(() => false), interrupted.then(() => true)]);
    if ((await orLate(isInterrupted, Math.min(wellAtMs, untilMs) - nowMs)) === true) return SUPERSEDED;
  }
}

async function endedTooSoon(instance: StitchInstance, minHealthyMs: number): Promise<StepError> {
  const exit = await instance.exited;
  const { stderrTail } = exit;
  return {
    code: "exited_early",
    message: `${exitText(exit)} before it had been well for ${minHealthyMs} ms`,
    ...(stderrTail === undefined ? {} : { stderrTail }),
  };
}
