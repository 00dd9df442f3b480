import type { EventResource } from "../contract/event.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { lastEventId, refuseGoneEvents, waitForEvents } from "../redis/events.ts";
import type { Keys } from "../redis/keys.ts";

const BATCH = 500;
/** Less than the 15 s that a connection may be silent. */
const BLOCK_MS = 10_000;

type Source = { readonly redis: RedisClient; readonly keys: Keys; openBlocking(): RedisClient };

/**
 * Follows events for the API, as `Backend` promises it: one blocking connection per stream, closed when its signal aborts.
 */
export async function followEvents(
  source: Source,
  after: string | null,
  signal: AbortSignal,
): Promise<AsyncIterable<readonly EventResource[]>> {
  signal.throwIfAborted();
  if (after !== null) await refuseGoneEvents(source.redis, source.keys, after);
  return follow(source, after ?? (await lastEventId(source.redis, source.keys)), signal);
}

async function* follow(source: Source, after: string, signal: AbortSignal): AsyncGenerator<readonly EventResource[]> {
  if (signal.aborted) return;
  const client = source.openBlocking();
  const letGo = () => client.disconnect();
  signal.addEventListener("abort", letGo, { once: true });
  let last = after;
  try {
    for (;;) {
      const next = await waitForEvents(client, source.keys, last, BATCH, BLOCK_MS);
      // Only a reader that lags gets full batches: the events that it would read next may have been trimmed meanwhile.
      if (next.isFull) await refuseGoneEvents(source.redis, source.keys, last);
      last = next.last;
      if (next.events.length > 0) yield next.events;
    }
  } catch (error) {
    // A read that ends because we disconnected is the end, not a failure.
    if (!signal.aborted) throw error;
  } finally {
    letGo();
  }
}
