import * as z from "zod";
import { EVENT_TYPES } from "../domain/event.ts";
import { groupContains, groupName } from "../domain/group.ts";
import { nodeId } from "../domain/ids.ts";
import type { EventResource } from "../domain/resources.ts";
import { pageQuery } from "./query.ts";

const families = [...new Set(EVENT_TYPES.map((type) => `${type.split(".")[0]}.*`))];
const known = new Set<string>(["*", ...families, ...EVENT_TYPES]);

/** `node.*,job.ended`: types and families. A type that there is not would match nothing for ever, so it is refused. */
const types = z
  .string()
  .max(1000)
  .transform((text) => text.split(",").map((type) => type.trim()))
  .refine(
    (list) => list.every((type) => known.has(type)),
    `must be a comma-separated list of: ${families.join(", ")}, ${EVENT_TYPES.join(", ")}`,
  );

export const eventId = z.string().regex(/^\d{1,15}(-\d{1,15})?$/, "must be the id of an event");

export const eventsQuery = z.strictObject({
  ...pageQuery,
  cursor: eventId.optional(),
  type: types.optional(),
  node: nodeId.optional(),
  group: groupName.optional(),
  since: eventId.optional(),
});
export type EventFilter = Pick<z.output<typeof eventsQuery>, "type" | "node" | "group">;

export function matches(event: EventResource, { type, node, group }: EventFilter): boolean {
  return (
    (type === undefined || type.some((one) => one === "*" || one === event.type || ofFamily(event.type, one))) &&
    (node === undefined || node === event.node || event.stitch?.startsWith(`${node}:`) === true) &&
    (group === undefined || (event.group !== null && groupContains(group, event.group)))
  );
}

const ofFamily = (type: string, glob: string): boolean => glob.endsWith(".*") && type.startsWith(glob.slice(0, -1));
