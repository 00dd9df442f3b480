import * as z from "zod";
import { placementOptions } from "../../domain/stitch/placement-options.ts";
import { specHash } from "../../domain/stitch/spec.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readField, readIndex, readKey } from "../unreadable.ts";

/** A group that has had no stitch for this long is forgotten. */
const KEPT_MS = 30 * 86_400_000;

/**
 * Keeps the newest template. KEYS template. ARGV revision, template. Returns 1 if this template was stored. A value of
 * another type, or without a number as revision, is older than all. The template expires by itself until the group has a
 * stitch (see `keepTemplate`).
 */
const remember = defineScript<[template: string]>(
  "remember_template",
  1,
  `
local was = redis.pcall('HGET', KEYS[1], 'revision')
if type(was) == 'table' then redis.call('DEL', KEYS[1]) end
if type(was) == 'string' and (tonumber(was) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'template', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
return 1
`,
);

/** `reschedule`: new stitches get this value, not the spec's: the spec may be that of a stitch that was placed by name. */
const template = z.object({ specHash, reschedule: z.boolean(), placement: placementOptions });
export type StoredTemplate = z.output<typeof template>;

/** Stores the template of a full group's last create. It is kept without a stitch, too. Safe to repeat: the newest stays. */
export async function rememberTemplate(
  redis: RedisClient,
  keys: Keys,
  group: string,
  revision: number,
  template: StoredTemplate,
): Promise<void> {
  await remember.call(redis, [keys.groupTemplate(group)], [revision, JSON.stringify(template)]);
}

/** The template of a full group; null if there is none, or if it cannot be read, unless `onUnreadable` throws. */
export async function readTemplate(
  redis: RedisClient,
  keys: Keys,
  group: string,
  onUnreadable: OnUnreadable,
): Promise<StoredTemplate | null> {
  const at = { id: group, key: keys.groupTemplate(group), field: "template" };
  const text = await readKey(at, redis.hget(at.key, at.field), null, onUnreadable);
  return text === null ? null : readField(template, text, at, onUnreadable);
}

/** The hashes of the specs in the templates of full groups, without templates that cannot be read. */
export async function specsOfTemplates(
  redis: RedisClient,
  keys: Keys,
  fullGroups: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<string[]> {
  const templates = await Promise.all(fullGroups.map((group) => readTemplate(redis, keys, group, onUnreadable)));
  return templates.flatMap((each) => each?.specHash ?? []);
}

/** The revision of the last create in each of the full groups; null if there is no template. */
export function templateRevisions(
  redis: RedisClient,
  keys: Keys,
  fullGroups: readonly string[],
): Promise<(number | null)[]> {
  return Promise.all(
    fullGroups.map(async (group) => {
      const key = keys.groupTemplate(group);
      const revision = Number(await readIndex(redis, key, "hash", redis.hget(key, "revision"), null));
      return revision > 0 ? revision : null;
    }),
  );
}

/** Restarts the time after which a template expires, because its group has a stitch. */
export async function keepTemplate(redis: RedisClient, keys: Keys, group: string): Promise<void> {
  await redis.pexpire(keys.groupTemplate(group), KEPT_MS);
}

/** Deletes a template. KEYS template. ARGV revision. Atomic: a template that was stored since stays. */
const drop = defineScript<[template: string]>(
  "drop_template",
  1,
  `
if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`,
);

/** Deletes the template of that revision. @returns false if another template has been stored since. */
export async function dropTemplate(redis: RedisClient, keys: Keys, group: string, revision: number): Promise<boolean> {
  return (await drop.call(redis, [keys.groupTemplate(group)], [revision])) === 1;
}
