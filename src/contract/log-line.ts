import { logLine } from "../domain/stitch/log-line.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/**
 * A line of a stitch's log. `at`: by the node's clock. `continued`: the line had no line end after 2 s of silence; the next
 * line of this source continues it.
 */
export const logLineResource = logLine.extend({ at: time });
export type LogLineResource = Resource<typeof logLineResource>;
