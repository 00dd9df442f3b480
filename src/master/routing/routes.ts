import type { RedisClient } from "../../redis/connection/client.ts";
import { addDeadLetters } from "../../redis/inbox/dead-letters.ts";
import { putMessages } from "../../redis/inbox/put-messages.ts";
import type { Keys } from "../../redis/keys.ts";
import { nodesOfGroup, receiversOf } from "../../redis/stitch/routes.ts";
import { readStitch } from "../../redis/stitch/stitch-records.ts";
import { locateStitch } from "../../redis/stitch/pointers.ts";
import type { Routes } from "../ports.ts";

export type RoutesOptions = {
  /** The connection for look-ups. */
  readonly redis: RedisClient;
  /** The connection for sending: if it sends each command at once, it does not wait for look-ups. May be the same one. */
  readonly direct: RedisClient;
  readonly keys: Keys;
};

/** Finds stitches by the pointers that their nodes write. */
export const routesOf = ({ redis, direct, keys }: RoutesOptions): Routes => ({
  locate: (stitch) => locateStitch(redis, keys, stitch),
  takesMessages: async (id) => {
    const { record, movedTo } = await readStitch(redis, keys, id);
    return movedTo !== null || record?.takesMessages === true;
  },
  nodesOf: (group) => nodesOfGroup(redis, keys, group),
  receiversOf: (group) => receiversOf(direct, keys, group),
  put: (node, messages) => putMessages(direct, keys, node, messages),
  bury: (node, letters) => addDeadLetters(direct, keys, node, letters),
});
