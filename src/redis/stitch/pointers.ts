import * as z from "zod";
import { parseFullGroup } from "../../domain/names/group.ts";
import { fullId, nodeId, splitFullId } from "../../domain/names/ids.ts";
import type { RemovedRecord, StitchRecord } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import { isCluster } from "../connection/connection.ts";
import { aroundId, type Keys } from "../keys.ts";
import { addPointer, addRoutes, dropPointer, dropRoutes } from "./routes.ts";
import { defineScript } from "../connection/script.ts";
import { readIndex, readKey, writeIndex } from "../unreadable.ts";

/** Makes the pointers of a moved stitch lead to the new one. Once the old one's route is gone, so does the bare id. */
export function handOver(
  redis: RedisClient,
  keys: Keys,
  { group, movedTo, was, takenBack }: Pick<RemovedRecord, "group" | "movedTo" | "was" | "takenBack">,
): Promise<unknown>[] {
  if (movedTo === null || takenBack === true) return [];
  const { node, stitch } = splitFullId(movedTo);
  const routes =
    was === null ? [] : addRoutes(redis, keys, node, { id: stitch, group, takesMessages: was.takesMessages });
  return [addPointer(redis, keys.group(group), movedTo), ...routes];
}

/** In a route, separates the group from the node that the stitch comes from. */
const FROM = "<";

export function addPointers(redis: RedisClient, keys: Keys, node: string, record: StitchRecord): Promise<unknown>[] {
  const { id, group } = record;
  const parts = parseFullGroup(group);
  if (parts === null) throw new Error(`not a full group: ${group}`);
  // While a stitch arrives, only its full id finds it: the bare id and the group still mean the stitch that it comes from.
  const route = (to: string) => writeIndex(redis, keys.route(id), "hash", () => redis.hset(keys.route(id), node, to));
  if (record.movedFrom !== null) return [route(`${group}${FROM}${splitFullId(record.movedFrom).node}`)];
  return [
    route(group),
    addPointer(redis, keys.group(group), fullId(node, id)),
    addPointer(redis, keys.application(parts.application), `${parts.component}.${parts.version}`),
    addPointer(redis, keys.applications, parts.application),
    ...addRoutes(redis, keys, node, record),
  ];
}

export function dropPointers(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: { id: string; group: string },
  receives: boolean,
): Promise<unknown>[] {
  return [
    writeIndex(redis, keys.route(stitch.id), "hash", () => redis.hdel(keys.route(stitch.id), node)),
    dropPointer(redis, keys.group(stitch.group), fullId(node, stitch.id)),
    ...dropRoutes(redis, keys, node, stitch, receives),
  ];
}

/**
 * Reads the route of a bare id, and whether its stitches exist. Not for a Cluster. ARGV route, what stands before and after a node's id
 * in the key of its stitches, bare id. Returns {node, route, 1 or 0, …}; false if one of them cannot be read. The keys are not declared:
 * a node may not write those of another one (docs/security.md).
 */
const locate = defineScript<[]>(
  "locate_stitch",
  0,
  `
local routes, reply = redis.pcall('HGETALL', ARGV[1]), {}
if routes.err then return false end
for i = 1, #routes, 2 do
  local exists = redis.pcall('HEXISTS', ARGV[2] .. routes[i] .. ARGV[3], ARGV[4])
  if type(exists) == 'table' then return false end
  reply[#reply + 1] = {routes[i], routes[i + 1], exists == 1 and 1 or 0}
end
return reply
`,
);

const locateReply = z.array(z.tuple([z.string(), z.string(), z.number()])).nullable();

/**
 * The full ids that a bare id may mean: pointers are checked against the records, and stale ones are skipped. Stale
 * pointers are not deleted: a node writes the pointers of a stitch before its record, and would not write them again. While
 * a stitch moves, the bare id means the old one. On a single Redis, one round trip.
 */
export async function locateStitch(redis: RedisClient, keys: Keys, stitch: string): Promise<string[]> {
  const there =
    (isCluster(redis) ? null : await routesAtOnce(redis, keys, stitch)) ?? (await routesByKeys(redis, keys, stitch));
  const nodes = new Set(there.map(([node]) => node));
  return there
    .filter(([, route]) => !nodes.has(route.split(FROM)[1] ?? ""))
    .map(([node]) => fullId(node, stitch))
    .sort();
}

/** The nodes that have a stitch with this bare id, with what its route says of them. */
type RoutesThere = readonly (readonly [node: string, route: string])[];

async function routesAtOnce(redis: RedisClient, keys: Keys, stitch: string): Promise<RoutesThere | null> {
  const args = [keys.route(stitch), ...aroundId((id) => keys.nodeStitches(id)), stitch];
  const reply = locateReply.parse(await locate.call(redis, [], args));
  if (reply === null) return null;
  return reply.filter(([node, , exists]) => exists === 1 && isNodeId(node)).map(([node, route]) => [node, route]);
}

async function routesByKeys(redis: RedisClient, keys: Keys, stitch: string): Promise<RoutesThere> {
  const key = keys.route(stitch);
  const pointers = Object.entries(await readIndex(redis, key, "hash", redis.hgetall(key), {}));
  const routes = pointers.filter(([node]) => isNodeId(node));
  const exists = await Promise.all(
    routes.map(([node]) => {
      const stitches = keys.nodeStitches(node);
      return readKey({ id: node, key: stitches }, redis.hexists(stitches, stitch), 0, () => undefined);
    }),
  );
  return routes.filter((_, index) => exists[index] === 1);
}

const isNodeId = (text: string): boolean => nodeId.safeParse(text).success;

/**
 * Reads routes. KEYS routes. ARGV the node for each route. Returns what each route says of its node, or false (also if the
 * key has another type). A script, because the cost is the number of commands: a group may have ten thousand members.
 */
const readRoutes = defineScript<string[]>(
  "read_routes",
  null,
  `
local found = {}
for i, key in ipairs(KEYS) do
  local route = redis.pcall('HGET', key, ARGV[i])
  found[i] = type(route) == 'string' and route
end
return found
`,
);

/** Routes in one call: other clients of Redis wait a fraction of a millisecond meanwhile. */
const ROUTES_AT_ONCE = 500;

const routesReply = z.array(z.string().nullable());

/** The full groups of stitches by their routes; null if there is no route. This shows which pointers in a group are stale. */
export async function groupsByRoute(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
): Promise<(string | null)[]> {
  const groupIn = (route: string | null) => route?.split(FROM)[0] ?? null;
  const addresses = fullIds.map(splitFullId);
  const keyOf = ({ stitch }: { stitch: string }) => keys.route(stitch);
  if (isCluster(redis))
    return Promise.all(
      addresses.map(async (each) => {
        const key = keyOf(each);
        return groupIn(await readIndex(redis, key, "hash", redis.hget(key, each.node), null));
      }),
    );
  const parts = Array.from({ length: Math.ceil(addresses.length / ROUTES_AT_ONCE) }, (_, part) =>
    addresses.slice(part * ROUTES_AT_ONCE, (part + 1) * ROUTES_AT_ONCE),
  );
  const replies = await Promise.all(
    parts.map((part) =>
      readRoutes.callApart(
        redis,
        part.map(keyOf),
        part.map(({ node }) => node),
      ),
    ),
  );
  return replies.flatMap((reply) => routesReply.parse(reply).map(groupIn));
}

/** The nodes that have a stitch with this bare id, by its routes; also a node where the stitch is arriving. */
export function nodesWith(redis: RedisClient, keys: Keys, stitch: string): Promise<string[]> {
  return readIndex(redis, keys.route(stitch), "hash", redis.hkeys(keys.route(stitch)), []);
}

/** Drops the pointers of a forgotten node's stitches, as far as its records can be read. Safe to repeat. */
export async function dropPointersOf(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitches: readonly Pick<StitchRecord, "id" | "group">[],
): Promise<void> {
  await Promise.all(stitches.flatMap((stitch) => dropPointers(redis, keys, node, stitch, false)));
}
