/** Redis's clock may go this much faster or slower than this process's between two looks: beyond that, one of them was set. */
const DRIFT_MS = 500;

/** What a process sees of a Redis when it reads there. */
export type Look = {
  /** When the answer came, by a monotonic clock of this process. */
  readonly steadyMs: number;
  /** Redis's time. */
  readonly redisMs: number;
  /** Redis's replication id: it changes when another Redis becomes the primary. */
  readonly replid: string;
};

/** For how long a process has been reading from a Redis without a break. */
export type Pulse = { readonly sinceMs: number; readonly last: Look };

/**
 * The pulse after another look. It breaks, and begins anew, if nothing was read for longer than a heartbeat, if the clocks do not
 * agree, or if it is another Redis: nodes may have been unable to beat meanwhile, or their beats may be lost, so that a lease which
 * seems to have run out proves nothing.
 */
export function pulseAfter(pulse: Pulse | null, look: Look, heartbeatMs: number): Pulse {
  const anew: Pulse = { sinceMs: look.steadyMs, last: look };
  if (pulse === null || pulse.last.replid !== look.replid) return anew;
  const gapMs = look.steadyMs - pulse.last.steadyMs;
  const driftMs = Math.abs(look.redisMs - pulse.last.redisMs - gapMs);
  return gapMs > heartbeatMs || driftMs > DRIFT_MS ? anew : { sinceMs: pulse.sinceMs, last: look };
}

/** How long a silent node must have stood still before a Master declares it dead: longer than a beat that is late can take. */
export const standsStillMs = (heartbeatMs: number): number => 1.5 * heartbeatMs + 500;
