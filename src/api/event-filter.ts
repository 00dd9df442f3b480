import * as z from "zod";
import { EVENT_TYPES } from "../domain/event.ts";
import { groupName } from "../domain/names/group.ts";
import { nodeId } from "../domain/names/ids.ts";
import { pageQuery } from "./query.ts";

const families = [...new Set(EVENT_TYPES.map((type) => `${type.split(".")[0]}.*`))];
const known = new Set<string>(["*", ...families, ...EVENT_TYPES]);

/** `node.*,job.ended`: types and families. An unknown type would never match anything, so it is refused. */
const types = z
  .string()
  .max(1000)
  .transform((text) => text.split(",").map((type) => type.trim()))
  .refine(
    (list) => list.every((type) => known.has(type)),
    `must be a comma-separated list of: ${families.join(", ")}, ${EVENT_TYPES.join(", ")}`,
  );

export const eventId = z.string().regex(/^\d{1,15}(-\d{1,15})?$/, "must be the id of an event");

/** The id after which the events from a given time begin. */
const time = z.iso.datetime({ offset: true }).transform((text) => {
  const beforeMs = Date.parse(text) - 1;
  return beforeMs < 0 ? "0-0" : `${beforeMs}-999999999999999`;
});

export const eventsQuery = z.strictObject({
  ...pageQuery,
  /** Only for a list. `before-` marks a list that goes back from the newest event. */
  cursor: z
    .string()
    .regex(/^(before-)?\d{1,15}(-\d{1,15})?$/, "must be a nextCursor of this list")
    .optional(),
  type: types.optional(),
  node: nodeId.optional(),
  group: groupName.optional(),
  since: z.union([eventId, time], "must be the id of an event, or a time such as 2026-11-23T09:00:00Z").optional(),
});
