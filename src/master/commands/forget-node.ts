import { RequestError } from "../../domain/errors.ts";
import { splitFullId } from "../../domain/names/ids.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import type { Dispatcher } from "../../queue/dispatcher.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { beginForgetting, endForgetting, unlistNode } from "../../redis/node/forgotten-node.ts";
import { listFullGroups, membersOf } from "../../redis/stitch/groups.ts";
import { InboxTaken } from "../../redis/inbox/inbox.ts";
import type { Keys } from "../../redis/keys.ts";
import { readOwnStitches } from "../../redis/stitch/stitch-records.ts";
import { dropPointersOf } from "../../redis/stitch/pointers.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";

export type ForgetNodeOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly dispatcher: Dispatcher;
  readonly deadAfterMs: number;
  readonly onUnreadable: OnUnreadable;
  /** Turns the messages in the node's inbox into dead letters. @throws InboxTaken */
  readonly buryInbox: (node: string, incarnation: number, stitches: readonly StitchRecord[]) => Promise<void>;
};

/**
 * Forgets a dead or left node: its stitches, queue, inbox and pointers. What Masters have decided about its stitches stays
 * for a week, because its worker may come back.
 *
 * The node is marked first and taken off the lists last, so that the same request can start again after an interruption.
 * A worker that registers meanwhile keeps its records and restores what was already taken from it: its place on the lists
 * and a paused queue within 30 heartbeats, pointers within 5 minutes.
 * @throws RequestError `not_found`, `node_alive`
 */
export async function forgetNode(options: ForgetNodeOptions, id: string): Promise<void> {
  const { redis, keys, dispatcher, deadAfterMs } = options;
  const begun = await beginForgetting(redis, keys, id, deadAfterMs);
  if (begun.kind === "alive")
    throw new RequestError("node_alive", `${id} lives; stop its worker first. Only dead and left nodes are forgotten.`);
  if (begun.kind === "unknown") {
    // An earlier request was interrupted at the very end: only the node's name is left, on the lists.
    if (await unlistNode(redis, keys, id)) return;
    throw new RequestError("not_found", `There is no node "${id}"; GET /v1/nodes lists them.`);
  }
  const { stitches, pointed } = await stitchesOf(options, id);
  try {
    // If the incarnation is unknown, no incarnation can still acknowledge messages.
    const incarnation = begun.incarnation < 0 ? Number.MAX_SAFE_INTEGER : begun.incarnation;
    await options.buryInbox(id, incarnation, stitches);
  } catch (error) {
    throw error instanceof InboxTaken ? back(id, error) : error;
  }
  await dropPointersOf(redis, keys, id, pointed);
  await dispatcher.obliterate(id);
  if (!(await endForgetting(redis, keys, id, begun))) {
    await dispatcher.resume(id);
    throw back(id);
  }
  await unlistNode(redis, keys, id);
}

/** The node's stitch records, and the stitches that pointers lead to, including those whose record cannot be read. */
async function stitchesOf({ redis, keys, onUnreadable }: ForgetNodeOptions, id: string) {
  let isWhole = true;
  const { stitches } = await readOwnStitches(redis, keys, id, (error) => {
    isWhole = false;
    onUnreadable(error);
  });
  if (isWhole) return { stitches, pointed: stitches };
  const groups = await listFullGroups(redis, keys, null, onUnreadable);
  const members = await membersOf(redis, keys, groups, onUnreadable);
  const pointed = groups.flatMap((group, index) =>
    (members[index] ?? [])
      .map(splitFullId)
      .filter(({ node }) => node === id)
      .map(({ stitch }) => ({ id: stitch, group })),
  );
  return { stitches, pointed: [...stitches, ...pointed] };
}

const back = (id: string, cause?: unknown) =>
  new RequestError("node_alive", `${id} has come back while it was being forgotten; it stays.`, {}, { cause });
