import * as z from "zod";
import { ELIGIBILITIES, type Eligibility } from "../../domain/node/node.ts";
import type { Revision } from "../../domain/names/revision.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { readKey } from "../unreadable.ts";

/**
 * Sets eligibility as a Master's order. KEYS orders. ARGV eligibility, revision, wave.
 * Returns 1 if it changed, 0 if it was so before, -1 if a newer command, or a later wave of this one, has decided.
 * Repeating it changes nothing and returns the same: the first caller may have died before it reported the result.
 */
const setEligibility = defineScript<[orders: string]>(
  "set_eligibility",
  1,
  `
only(KEYS[1], 'hash')
local o = redis.call('HMGET', KEYS[1], 'eligibility', 'eligibilityRevision', 'eligibilityWave', 'eligibilityBefore')
local revision, wave = tonumber(o[2] or 0) or 0, tonumber(o[3] or 0) or 0
if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave > tonumber(ARGV[3])) then return -1 end
local repeated = revision == tonumber(ARGV[2]) and wave == tonumber(ARGV[3])
local before = (repeated and o[4]) or o[1] or 'eligible'
redis.call('HSET', KEYS[1], 'eligibility', ARGV[1], 'eligibilityRevision', ARGV[2], 'eligibilityWave', ARGV[3],
  'eligibilityBefore', before)
if ARGV[1] == 'eligible' then redis.call('HSET', KEYS[1], 'uncordonedBy', ARGV[2]) end
if before == ARGV[1] then return 0 end
return 1
`,
);

/**
 * Copies an order into the node's own hash, where the node's heartbeat reads it: a heartbeat reads one key.
 * KEYS meta. ARGV eligibility, revision, wave. Copies only if the node is registered, and never over a newer order.
 */
const copyEligibility = defineScript<[meta: string]>(
  "copy_eligibility",
  1,
  `
local m = redis.pcall('HMGET', KEYS[1], 'incarnation', 'eligibilityRevision', 'eligibilityWave')
if not m[1] then return 0 end
local revision, wave = tonumber(m[2] or 0) or 0, tonumber(m[3] or 0) or 0
if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave > tonumber(ARGV[3])) then return 0 end
redis.call('HSET', KEYS[1], 'eligibility', ARGV[1], 'eligibilityRevision', ARGV[2], 'eligibilityWave', ARGV[3])
return 1
`,
);

/** Most labels of one node that are set by command: each read of the node reads all of them. */
export const MOST_LABELS = 100;

/**
 * Sets labels as a Master's order. KEYS orders. ARGV revision, wave, most labels, then for each label its name, `set`,
 * `removed` or `unset`, and its value.
 * The field `labels` is JSON: by name {is, v: the value if it is set, r: revision, w: wave, was: {is, v} before this
 * order}. A label that is unset keeps its entry, so that an older order that comes late finds the newer one.
 * Returns {how many labels no newer command has decided, how many of those have changed, how they were before as JSON}; or
 * {-1} if there would be too many labels. Repeating it changes nothing and returns the same (see `set_eligibility`).
 */
const setLabels = defineScript<[orders: string]>(
  "set_labels",
  1,
  `
only(KEYS[1], 'hash')
local ok, all = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'labels') or '{}')
if not ok or type(all) ~= 'table' then all = {} end
local revision, wave = tonumber(ARGV[1]), tonumber(ARGV[2])
local decided, changed, before = 0, 0, {}
for i = 4, #ARGV, 3 do
  local name, is, v = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is ~= 'set' then v = nil end
  local e = all[name] or {is = 'unset', r = 0, w = 0}
  if e.r < revision or (e.r == revision and e.w <= wave) then
    local was = (e.r == revision and e.w == wave and e.was) or {is = e.is, v = e.v}
    all[name] = {is = is, v = v, r = revision, w = wave, was = was}
    before[name] = was
    decided = decided + 1
    if was.is ~= is or was.v ~= v then changed = changed + 1 end
  end
end
local count = 0
for _ in pairs(all) do count = count + 1 end
if count > tonumber(ARGV[3]) then
  for name, e in pairs(all) do if e.is == 'unset' and e.r < revision then all[name], count = nil, count - 1 end end
  if count > tonumber(ARGV[3]) then return {-1} end
end
if decided > 0 then redis.call('HSET', KEYS[1], 'labels', cjson.encode(all)) end
return {decided, changed, cjson.encode(before)}
`,
);

/** A label as a command has set it. */
const labelEntry = z.object({ is: z.enum(["set", "removed", "unset"]), v: z.string().optional() });

export const labelEntries = z.record(z.string(), labelEntry);

type LabelEntries = z.output<typeof labelEntries>;

/** The labels of a node: those that its worker was started with, overridden by those that commands have set or removed. */
export const labelsOf = (own: Readonly<Record<string, string>>, ordered: LabelEntries): Record<string, string> =>
  Object.fromEntries([
    ...Object.entries(own).filter(([name]) => !Object.hasOwn(ordered, name) || ordered[name]?.is === "unset"),
    ...Object.entries(ordered).flatMap(([name, { is, v }]) => (is === "set" && v !== undefined ? [[name, v]] : [])),
  ]);

// Made once: a schema costs more to make than to use.
const setLabelsReply = z.tuple([z.literal(-1)]).or(z.tuple([z.int().min(0), z.int().min(0), z.string()]));

export const eligibilityField = z.enum(ELIGIBILITIES);

/** @returns "superseded" if a newer command has decided. Safe to repeat. */
export async function orderEligibility(
  redis: RedisClient,
  keys: Keys,
  id: string,
  eligibility: Eligibility,
  { revision, wave }: Revision,
): Promise<"changed" | "unchanged" | "superseded"> {
  const reply = await setEligibility.call(redis, [keys.nodeOrders(id)], [eligibility, revision, wave]);
  if (reply !== -1) await copyEligibility.call(redis, [keys.nodeMeta(id)], [eligibility, revision, wave]);
  return reply === 1 ? "changed" : reply === 0 ? "unchanged" : "superseded";
}

/**
 * An order about labels. `labels`: a value, or null to remove the label. `unset`: the label is as the worker was started
 * with it.
 */
export type LabelOrder = {
  readonly labels: Readonly<Record<string, string | null>>;
  readonly unset: readonly string[];
};

type LabelsOrdered =
  | { readonly outcome: "superseded" | "full" }
  | { readonly outcome: "done"; readonly changed: boolean; readonly before: LabelOrder };

/**
 * Sets labels of a node. @returns how they were before; "superseded" if newer commands have decided about all of them;
 * "full" if there would be more than `MOST_LABELS`: then nothing is done. Safe to repeat.
 */
export async function orderLabels(
  redis: RedisClient,
  keys: Keys,
  id: string,
  { labels, unset }: LabelOrder,
  { revision, wave }: Revision,
): Promise<LabelsOrdered> {
  const orders = [
    ...Object.entries(labels).flatMap(([name, value]) => [name, value === null ? "removed" : "set", value ?? ""]),
    ...unset.flatMap((name) => [name, "unset", ""]),
  ];
  const reply = setLabelsReply.parse(
    await setLabels.call(redis, [keys.nodeOrders(id)], [revision, wave, MOST_LABELS, ...orders]),
  );
  if (reply.length === 1) return { outcome: "full" };
  const [decided, changed, before] = reply;
  if (decided === 0) return { outcome: "superseded" };
  const entries = Object.entries(labelEntries.parse(JSON.parse(before)));
  return {
    outcome: "done",
    changed: changed > 0,
    before: {
      labels: Object.fromEntries(entries.flatMap(([name, { is, v }]) => (is === "unset" ? [] : [[name, v ?? null]]))),
      unset: entries.flatMap(([name, { is }]) => (is === "unset" ? [name] : [])).sort(),
    },
  };
}

/**
 * The eligibility that Masters have set for a node. If it cannot be read, the node takes no new stitches until it is
 * uncordoned.
 */
export async function readEligibility(redis: RedisClient, keys: Keys, id: string): Promise<Eligibility> {
  const key = keys.nodeOrders(id);
  const ordered = await readKey({ id, key }, redis.hget(key, "eligibility"), OTHER_TYPE, () => undefined);
  return ordered === null ? "eligible" : eligibilityField.catch("cordoned").parse(ordered);
}

/** Stands for the value of a key of another type: it is neither JSON nor an eligibility. */
export const OTHER_TYPE = "of another type";
