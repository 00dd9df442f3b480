import { type EndingSignal, onEndingSignals } from "../../ending-signals.mjs";

/** A terminal, npm and the launcher may each pass on the same Ctrl-C: signals this soon after the first count as the first. */
const SAME_SIGNAL_MS = 500;

/**
 * Calls `first` at the first signal that asks the process to end, and `again` at each signal that comes more than half a
 * second after the first.
 * @returns a function that restores the default handling of the signals.
 */
export function onEndingSignal(
  first: (signal: EndingSignal) => void,
  again: (signal: EndingSignal) => void,
): () => void {
  let firstAtMs: number | null = null;
  return onEndingSignals((signal) => {
    const nowMs = performance.now();
    if (firstAtMs === null) {
      firstAtMs = nowMs;
      first(signal);
    } else if (nowMs - firstAtMs > SAME_SIGNAL_MS) again(signal);
  });
}
