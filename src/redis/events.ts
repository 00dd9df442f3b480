import { RequestError } from "../domain/errors.ts";
import { type ClusterEvent, clusterEvent, compareEventIds } from "../domain/event.ts";
import type { EventResource } from "../contract/event.ts";
import type { RedisClient } from "./connection/client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./connection/script.ts";
import { type OnUnreadable, readField, readIndex } from "./unreadable.ts";

/** Events kept: about 3 MB, enough for some hours of a busy cluster. */
const KEPT = 10_000;

/**
 * Appends events. KEYS events. ARGV events. A script, because a job over a thousand stitches has a thousand events, and the
 * cost for a node is the number of Redis commands, not the number of events.
 */
const emit = defineScript<[events: string]>(
  "emit_events",
  1,
  `
only(KEYS[1], 'stream')
for _, event in ipairs(ARGV) do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ${KEPT}, '*', 'event', event) end
`,
);
/** Events in one call: other clients of Redis wait meanwhile. */
const EMITTED_AT_ONCE = 200;

/** Records events in order; one round trip. Throws if Redis is away: a caller that wants best effort catches the error. */
export async function emitEvents(redis: RedisClient, keys: Keys, events: readonly ClusterEvent[]): Promise<void> {
  const parts = Array.from({ length: Math.ceil(events.length / EMITTED_AT_ONCE) }, (_, part) =>
    events.slice(part * EMITTED_AT_ONCE, (part + 1) * EMITTED_AT_ONCE),
  );
  await Promise.all(
    parts.map((part) =>
      emit.call(
        redis,
        [keys.events],
        part.map((event) => JSON.stringify(event)),
      ),
    ),
  );
}

type Entry = readonly [id: string, fields: readonly string[]];

function resourceOf(keys: Keys, [id, fields]: Entry, onUnreadable: OnUnreadable): EventResource | null {
  const at = { id: `the event ${id}`, key: keys.events, field: "event" };
  const event = readField(clusterEvent, fields[1] ?? "", at, onUnreadable);
  if (event === null) return null;
  return {
    id,
    type: event.type,
    at: timeOf(id),
    node: event.node,
    stitch: event.stitch,
    group: event.group,
    job: event.job,
    data: event.data,
  };
}

/** An entry of the stream; `event` is null if it cannot be read. */
type PlacedEvent = { readonly id: string; readonly event: EventResource | null };

/** The entries after an id, oldest first; fewer than `count` only if there are no more. */
export async function eventsAfter(
  redis: RedisClient,
  keys: Keys,
  id: string,
  count: number,
  onUnreadable: OnUnreadable,
): Promise<PlacedEvent[]> {
  const read = redis.xrange(keys.events, `(${id}`, "+", "COUNT", count);
  return placed(keys, await readIndex(redis, keys.events, "stream", read, [], onUnreadable), onUnreadable);
}

/** The entries before an id (null: begins with the newest), newest first; fewer than `count` only if there are no more. */
export async function eventsBefore(
  redis: RedisClient,
  keys: Keys,
  id: string | null,
  count: number,
  onUnreadable: OnUnreadable,
): Promise<PlacedEvent[]> {
  const read = redis.xrevrange(keys.events, id === null ? "+" : `(${id}`, "-", "COUNT", count);
  return placed(keys, await readIndex(redis, keys.events, "stream", read, [], onUnreadable), onUnreadable);
}

const placed = (keys: Keys, entries: readonly Entry[], onUnreadable: OnUnreadable): PlacedEvent[] =>
  entries.map((entry) => ({ id: entry[0], event: resourceOf(keys, entry, onUnreadable) }));

/**
 * The events after a given one. `last`: the id to continue from. `isFull`: there may be more by now.
 * Events that cannot be read are skipped without a report: many clients follow events, and the list of events reports them.
 */
type NextEvents = { readonly events: readonly EventResource[]; readonly last: string; readonly isFull: boolean };

/** Waits at most `blockMs` for events after `after`. Needs a connection of its own. */
export async function waitForEvents(
  redis: RedisClient,
  keys: Keys,
  after: string,
  limit: number,
  blockMs: number,
): Promise<NextEvents> {
  const read = redis.xread("COUNT", limit, "BLOCK", blockMs, "STREAMS", keys.events, after);
  const entries = (await readIndex(redis, keys.events, "stream", read, null))?.[0]?.[1] ?? [];
  const events = placed(keys, entries, () => undefined)
    .map(({ event }) => event)
    .filter((event) => event !== null);
  return { events, last: entries.at(-1)?.[0] ?? after, isFull: entries.length === limit };
}

/** The id of the newest event; `0-0` if there is none. */
export async function lastEventId(redis: RedisClient, keys: Keys): Promise<string> {
  const [newest] = await readIndex(
    redis,
    keys.events,
    "stream",
    redis.xrevrange(keys.events, "+", "-", "COUNT", 1),
    [],
  );
  return newest?.[0] ?? "0-0";
}

/**
 * Refuses to continue after an event that has been trimmed away: the reader would miss events without noticing it.
 * @throws RequestError `events_gone`.
 */
export async function refuseGoneEvents(redis: RedisClient, keys: Keys, after: string): Promise<void> {
  const [oldest] = await readIndex(redis, keys.events, "stream", redis.xrange(keys.events, "-", "+", "COUNT", 1), []);
  if (oldest === undefined || compareEventIds(after, oldest[0]) >= 0) return;
  const info: unknown = await redis.xinfo("STREAM", keys.events);
  if (!Array.isArray(info)) return;
  const fact = (name: string) => Number(info[info.indexOf(name) + 1]);
  if (fact("entries-added") <= fact("length")) return;
  const [id] = oldest;
  throw new RequestError(
    "events_gone",
    `Events are no longer kept from so long ago; the oldest one is ${id}, of ${timeOf(id)}. Go on from that id, or read the ` +
      "state anew and follow from now.",
  );
}

const timeOf = (id: string): string => new Date(Number(id.split("-")[0])).toISOString();
