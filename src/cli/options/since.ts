import { InvalidArgumentError } from "commander";
import { parseDuration } from "../terminal/duration.ts";

const EVENT_ID = /^\d{1,15}(-\d{1,15})?$/;
/** The time zone is required: a time without one is ambiguous. */
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/;

/**
 * Where events begin, in the API's form. `text` is an event's id (events after it; kept as it is), a time (events from it on),
 * or a duration before now (`10m`).
 * @throws InvalidArgumentError, which commander shows with the option's name.
 */
export function parseSince(text: string, nowMs: number): string {
  if (EVENT_ID.test(text)) return text;
  if (TIME.test(text) && !Number.isNaN(Date.parse(text))) return new Date(text).toISOString();
  if (/^\d[\d.]*[a-z]+$/.test(text)) return new Date(nowMs - parseDuration(text)).toISOString();
  throw new InvalidArgumentError(
    "It is an event's id, a time such as 2026-11-23T09:00:00Z, or a duration such as 10m.",
  );
}
