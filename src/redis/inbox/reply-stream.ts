import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/**
 * Most batches that wait for their reader. A node bounds the bytes of each batch, so one slow reader holds a few MB at most.
 */
export const MAX_BATCHES = 16;
/** A reader that has not renewed its lease for this long is gone. A reader renews three times as often. */
export const READER_LEASE_MS = 9000;
/** A stream that nobody reads any more expires by itself. */
const STREAM_TTL_MS = READER_LEASE_MS;

/**
 * Appends a batch to a stream of answers. KEYS stream, lease of its reader.
 * ARGV bound, ms to keep it, number of the batch, batch, channel, id of the reply.
 * Returns 'ok' (also if a batch with this number is there already), 'full', or 'gone' if nobody reads any more.
 * Atomic: nothing is written for a reader that is gone.
 */
const append = defineScript<[stream: string, lease: string]>(
  "append_to_reply",
  2,
  `
if redis.call('EXISTS', KEYS[2]) == 0 then return 'gone' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 'full' end
local added = redis.pcall('XADD', KEYS[1], ARGV[3] .. '-0', 'batch', ARGV[4])
if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true) then return added end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 'ok'
`,
);

/** Appends the batch with the next number, from 1 on. Safe to repeat with the same number. */
export async function appendBatch(
  redis: RedisClient,
  keys: Keys,
  to: { readonly reply: string; readonly asker: string },
  number: number,
  batch: string,
): Promise<"ok" | "full" | "gone"> {
  const reply = await append.call(
    redis,
    [keys.reply(to.reply), keys.replyLease(to.reply)],
    [MAX_BATCHES, STREAM_TTL_MS, number, batch, keys.replyChannel(to.asker), to.reply],
  );
  return z.enum(["ok", "full", "gone"]).parse(reply);
}

/** Renews the reader's lease: somebody reads the stream for the next `READER_LEASE_MS`. */
export async function renewReaderLease(redis: RedisClient, keys: Keys, reply: string): Promise<void> {
  await redis.set(keys.replyLease(reply), "", "PX", READER_LEASE_MS);
}

type NumberedBatch = { readonly number: number; readonly batch: string };

/**
 * Reads the batches after the number `after`. Deletes those up to `after`, because they have been read, and renews the
 * lease. One round trip.
 */
export async function readBatches(
  redis: RedisClient,
  keys: Keys,
  reply: string,
  after: number,
): Promise<NumberedBatch[]> {
  const [entries] = await Promise.all([
    redis.xrange(keys.reply(reply), `${after + 1}-0`, "+"),
    after === 0 ? null : redis.xtrim(keys.reply(reply), "MINID", `${after + 1}-0`),
    renewReaderLease(redis, keys, reply),
  ]);
  return entries.map(([id, fields]) => ({ number: Number(id.split("-")[0]), batch: fields[1] ?? "" }));
}

/** Ends the reading: deletes the stream and the reader's lease. Safe to repeat. */
export async function endReading(redis: RedisClient, keys: Keys, reply: string): Promise<void> {
  // Both at once: without the lease the node appends nothing more.
  await redis.del(keys.replyLease(reply), keys.reply(reply));
}
