import { errorText } from "./error-text.ts";

/** The parts of an error that are safe to log. A client's error also has the command it sent, which may hold a password. */
export function loggable(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const code = "code" in error ? { code: error.code } : {};
  return { name: error.name, message: error.message, stack: error.stack, ...code };
}

/** Messages that are remembered. */
const MOST = 100;

/** Reports an error unless the same message came within the last `everyMs`: an unreachable Redis fails at each try. */
export function seldom(everyMs: number, report: (error: unknown) => void): (error: unknown) => void {
  const reportedAtMs = new Map<string, number>();
  return (error) => {
    const message = errorText(error);
    const nowMs = performance.now();
    const agoMs = nowMs - (reportedAtMs.get(message) ?? Number.NEGATIVE_INFINITY);
    if (agoMs < everyMs) return;
    if (reportedAtMs.size >= MOST) reportedAtMs.clear();
    reportedAtMs.set(message, nowMs);
    report(error);
  };
}
