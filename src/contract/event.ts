import * as z from "zod";
import { clusterEvent } from "../domain/event.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** Something that happened in the cluster. */
export const eventResource = clusterEvent.extend({
  /** Id in the stream: `since` and `Last-Event-ID` take it. */
  id: z.string(),
  at: time,
});
export type EventResource = Resource<typeof eventResource>;
