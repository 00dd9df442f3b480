import * as z from "zod";
import { placementOptions } from "../domain/placement-options.ts";
import type { Template } from "../domain/observed.ts";
import { stitchSpec } from "../domain/spec.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";

/** Keeps the newest. KEYS template. ARGV revision, template. Returns 1 where it was taken. */
const remember = defineScript<[template: string]>(
  "remember_template",
  1,
  `
if tonumber(redis.call('HGET', KEYS[1], 'revision') or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[1], 'template', ARGV[2])
return 1
`,
);

const template = z.object({ spec: stitchSpec, placement: placementOptions });

/** Remembers what a stitch of a full group was last made like, also when none is left. Safe to repeat: the newest stays. */
export async function rememberTemplate(
  redis: RedisClient,
  keys: Keys,
  group: string,
  revision: number,
  { spec, placement }: Template,
): Promise<void> {
  await remember.call(redis, [keys.groupTemplate(group)], [revision, JSON.stringify({ spec, placement })]);
}

/** null where nobody remembers. */
export async function readTemplate(redis: RedisClient, keys: Keys, group: string): Promise<Template | null> {
  const text = await redis.hget(keys.groupTemplate(group), "template");
  return text === null ? null : template.parse(JSON.parse(text));
}
