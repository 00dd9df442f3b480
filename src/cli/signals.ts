/** A terminal, npm and the launcher may each pass the same Ctrl-C on: signals this soon after the first are the first. */
const SAME_SIGNAL_MS = 500;

export type EndingSignal = "SIGINT" | "SIGTERM";

/**
 * Calls `first` at the first signal that asks the process to end, and `again` at each that comes more than half a second
 * after it, however often somebody presses the key.
 * @returns a function that gives the signals back to their default.
 */
export function onEndingSignal(
  first: (signal: EndingSignal) => void,
  again: (signal: EndingSignal) => void,
  names: readonly EndingSignal[] = ["SIGINT", "SIGTERM"],
): () => void {
  let firstAtMs: number | null = null;
  const listen = (signal: EndingSignal): void => {
    const nowMs = performance.now();
    if (firstAtMs === null) {
      firstAtMs = nowMs;
      first(signal);
    } else if (nowMs - firstAtMs > SAME_SIGNAL_MS) again(signal);
  };
  for (const name of names) process.on(name, listen);
  return () => {
    for (const name of names) process.removeListener(name, listen);
  };
}
