import { InvalidArgumentError } from "commander";

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
/** `setTimeout` takes at most 2^31-1 ms, and no wait needs more. */
const LONGEST_MS = 24 * 86_400_000;

/**
 * `500ms`, `30s`, `5m`, `1.5h`, `2d` in milliseconds. A number without a unit is refused: it is ambiguous.
 * @throws InvalidArgumentError, which commander shows with the option's name.
 */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim());
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  if (match === null || unitMs === undefined) {
    throw new InvalidArgumentError("A duration has a unit: 500ms, 30s, 5m, 1h or 2d.");
  }
  const ms = Math.round(Number(match[1]) * unitMs);
  if (ms < 1 || ms > LONGEST_MS) throw new InvalidArgumentError("A duration is 1ms to 24d.");
  return ms;
}

/** Short, for a table: `5s`, `3m`, `2h`, `4d`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** For people: `180 ms`, `2.4 s`, `5m 3s`, `2h 10m`, `3d 4h`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.floor(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes < 60) return `${minutes}m ${seconds % 60}s`;
  if (hours < 48) return `${hours}h ${minutes % 60}m`;
  return `${Math.floor(hours / 24)}d ${hours % 24}h`;
}
