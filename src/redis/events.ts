import { type ClusterEvent, clusterEvent } from "../domain/event.ts";
import type { EventResource } from "../domain/resources.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";
import { type OnUnreadable, readField, readIndex } from "./unreadable.ts";

/** Events kept: hours of a busy cluster, some 3 MB. */
const KEPT = 10_000;

/**
 * KEYS events. ARGV events. A script, because a step over a thousand stitches has a thousand events: what each costs its node
 * is the command, not the event.
 */
const emit = defineScript<[events: string]>(
  "emit_events",
  1,
  `
only(KEYS[1], 'stream')
for _, event in ipairs(ARGV) do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ${KEPT}, '*', 'event', event) end
`,
);
/** In one call; others wait for Redis meanwhile. */
const EMITTED_AT_ONCE = 200;

/** Records events in order; one round trip. Best effort is the caller's: this throws where Redis is away. */
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

/** Those of the entries that can be read. */
const eventsIn = (keys: Keys, entries: readonly Entry[], onUnreadable: OnUnreadable): EventResource[] =>
  entries.map((entry) => resourceOf(keys, entry, onUnreadable)).filter((event) => event !== null);

function resourceOf(keys: Keys, [id, fields]: Entry, onUnreadable: OnUnreadable): EventResource | null {
  const at = { id: `the event ${id}`, key: keys.events, field: "event" };
  const event = readField(clusterEvent, fields[1] ?? "", at, onUnreadable);
  if (event === null) return null;
  return {
    id,
    type: event.type,
    at: new Date(Number(id.split("-")[0])).toISOString(),
    node: event.node,
    stitch: event.stitch,
    group: event.group,
    job: event.job,
    data: event.data,
  };
}

/** Events after the id `after`, oldest first; none only where there are no more. */
export async function readEvents(
  redis: RedisClient,
  keys: Keys,
  after: string,
  limit: number,
  onUnreadable: OnUnreadable,
): Promise<EventResource[]> {
  for (let from = after; ; ) {
    const read = redis.xrange(keys.events, `(${from}`, "+", "COUNT", limit);
    const entries = await readIndex(redis, keys.events, "stream", read, [], onUnreadable);
    const events = eventsIn(keys, entries, onUnreadable);
    if (events.length > 0 || entries.length < limit) return events;
    from = entries.at(-1)?.[0] ?? from;
  }
}

/** The newest events, oldest first. */
export async function latestEvents(
  redis: RedisClient,
  keys: Keys,
  limit: number,
  onUnreadable: OnUnreadable,
): Promise<EventResource[]> {
  const read = redis.xrevrange(keys.events, "+", "-", "COUNT", limit);
  const entries = await readIndex(redis, keys.events, "stream", read, [], onUnreadable);
  return eventsIn(keys, entries, onUnreadable).reverse();
}

/**
 * What comes after an event. `last`: the id to go on from. `isFull`: there may be more by now.
 * Events that cannot be read are passed over, and not told of: many follow them, and whoever lists them tells.
 */
export type NextEvents = { readonly events: readonly EventResource[]; readonly last: string; readonly isFull: boolean };

/** Waits at most `blockMs` for events after `after`, on a connection of its own. */
export async function waitForEvents(
  redis: RedisClient,
  keys: Keys,
  after: string,
  limit: number,
  blockMs: number,
): Promise<NextEvents> {
  const read = redis.xread("COUNT", limit, "BLOCK", blockMs, "STREAMS", keys.events, after);
  const entries = (await readIndex(redis, keys.events, "stream", read, null))?.[0]?.[1] ?? [];
  const events = eventsIn(keys, entries, () => undefined);
  return { events, last: entries.at(-1)?.[0] ?? after, isFull: entries.length === limit };
}

/** The id of the newest event; `0-0` where there is none. */
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

/** Has an event after `after` been trimmed away? Then a reader that goes on from there would miss some without knowing. */
export async function eventsGone(redis: RedisClient, keys: Keys, after: string): Promise<boolean> {
  const [oldest] = await readIndex(redis, keys.events, "stream", redis.xrange(keys.events, "-", "+", "COUNT", 1), []);
  if (oldest === undefined || compareIds(after, oldest[0]) >= 0) return false;
  const info: unknown = await redis.xinfo("STREAM", keys.events);
  if (!Array.isArray(info)) return false;
  const fact = (name: string) => Number(info[info.indexOf(name) + 1]);
  return fact("entries-added") > fact("length");
}

function compareIds(a: string, b: string): number {
  const [aMs = 0, aSeq = 0] = a.split("-").map(Number);
  const [bMs = 0, bSeq = 0] = b.split("-").map(Number);
  return aMs - bMs || aSeq - bSeq;
}
