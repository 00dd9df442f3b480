import * as z from "zod";

/** Every time in an answer: ISO 8601, in UTC, such as `2026-11-23T09:00:00.000Z`. */
export const time = z.iso.datetime();

/** Unix milliseconds in this format. */
export const iso = (ms: number): string => new Date(ms).toISOString();
