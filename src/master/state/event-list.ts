import { type EventFilter, eventMatches } from "../../domain/event.ts";
import type { EventResource } from "../../contract/event.ts";
import type { ListResource } from "../../contract/list.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { readAsOf } from "./as-of.ts";
import { eventsAfter, eventsBefore, refuseGoneEvents } from "../../redis/events.ts";
import type { Keys } from "../../redis/keys.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";
import { iso } from "../../contract/time.ts";
import { search } from "./search.ts";

const EVENTS_AT_ONCE = 1000;
/** The prefix of the cursor of a list that goes back. The cursor of a list that goes forward is an event id. */
const BEFORE = "before-";

export type EventListOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly nowMs: () => number;
  readonly onUnreadable: OnUnreadable;
};

/** As `ClusterState.events`. */
export async function listEvents(
  { redis, keys, nowMs, onUnreadable }: EventListOptions,
  from: string | null,
  limit: number,
  filter: EventFilter,
): Promise<ListResource<EventResource>> {
  const goesBack = from === null || from.startsWith(BEFORE);
  const found = () =>
    search({
      limit,
      atOnce: EVENTS_AT_ONCE,
      after: from === null ? null : { id: goesBack ? from.slice(BEFORE.length) : from },
      read: (after: { readonly id: string } | null, count) =>
        goesBack
          ? eventsBefore(redis, keys, after?.id ?? null, count, onUnreadable)
          : eventsAfter(redis, keys, after?.id ?? "0-0", count, onUnreadable),
      view: (rows) =>
        Promise.resolve(rows.map(({ event }) => (event !== null && eventMatches(event, filter) ? event : null))),
      nowMs,
    });
  const [asOfMs, [{ items, last }]] = await readAsOf(redis, keys, () =>
    Promise.all([found(), goesBack ? null : refuseGoneEvents(redis, keys, from)]),
  );
  return {
    items: goesBack ? items.reverse() : items,
    nextCursor: last === null ? null : goesBack ? `${BEFORE}${last.id}` : last.id,
    asOf: iso(asOfMs),
  };
}
