import { componentOf } from "../../domain/names/group.ts";
import { generatedIdBase } from "../../domain/names/ids.ts";
import { livenessOf } from "../../domain/node/node.ts";
import { dropAssignments, keepAssignments, surveyAssignments } from "../../redis/stitch/assignments.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { dropOldDeadLetters, nodesWithDeadLetters, relistDeadLetters } from "../../redis/inbox/dead-letters.ts";
import { dropTemplate, keepTemplate, specsOfTemplates, templateRevisions } from "../../redis/stitch/group-template.ts";
import { countMembers, dropFromLists, listFullGroups } from "../../redis/stitch/groups.ts";
import { indexLostJobs, pruneRecentJobs } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import { listNodeIds, readNodes, redisTimeMs } from "../../redis/node/node-record.ts";
import { keepSpecs } from "../../redis/stitch/specs.ts";
import { keepSequence } from "../../redis/stitch/sequences.ts";
import { dropOldTombstones, nodesWithTombstones } from "../../redis/stitch/tombstones.ts";
import { type OnUnreadable, passingOver } from "../../redis/unreadable.ts";

/** How many versions without a stitch are kept of each component: they can be created and scaled again without a spec. */
const VERSIONS_KEPT = 10;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
/** A node that has been registered for longer than this has obeyed all older tombstones. */
const SETTLED_MS = 60 * MINUTE_MS;
const NODES_AT_ONCE = 1000;
/** How often the lifetime of specs in use is renewed: several times in the 8 days that a spec lasts without it. */
const SPECS_MS = 24 * 60 * MINUTE_MS;

export type HousekeepingOptions = {
  /** This Master's id. */
  readonly id: string;
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  readonly onLate: (error: unknown) => void;
  readonly onUnreadable: OnUnreadable;
};

/**
 * Deletes what nobody needs any more and what does not expire by itself. Only one Master does each chore, once per interval;
 * an interrupted chore is done in the next interval.
 */
export class Housekeeping {
  readonly #options: HousekeepingOptions;
  readonly #chores: readonly (readonly [name: string, everyMs: number, work: () => Promise<void>])[] = [
    // A little less than the time between two looks, so that only one Master finds the chore due each time.
    ["jobs", 25 * SECOND_MS, () => this.#jobs()],
    ["groups", 25 * SECOND_MS, () => this.#groups()],
    ["dead-letters", 10 * MINUTE_MS, () => this.#deadLetters()],
    ["tombstones", 60 * MINUTE_MS, () => this.#tombstones()],
    ["specs", SPECS_MS, () => this.#specs()],
  ];

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  /** Does the chores that are due and that no other Master is doing. */
  async work(): Promise<void> {
    await Promise.all(
      this.#chores.map(async ([name, everyMs, work]) => {
        if (await this.#isMine(name, everyMs)) await work().catch(this.#options.onLate);
      }),
    );
  }

  async #isMine(chore: string, everyMs: number): Promise<boolean> {
    const { id, redis, keys } = this.#options;
    const key = keys.housekeeping(chore);
    if ((await redis.set(key, id, "PX", everyMs, "NX")) !== null) return true;
    // Our keys always expire. A key without expiry is not ours, and would keep every Master from the chore.
    if ((await redis.pttl(key)) === -1) await redis.del(key);
    return false;
  }

  async #jobs(): Promise<void> {
    const { redis, keys, jobRetentionMs } = this.#options;
    await pruneRecentJobs(redis, keys, jobRetentionMs);
    await indexLostJobs(redis, keys);
  }

  /** Keeps the newest versions without a stitch, by their last create; their templates expire by themselves. */
  async #groups(): Promise<void> {
    const { redis, keys } = this.#options;
    const full = await listFullGroups(redis, keys, null, this.#options.onUnreadable);
    const [counts, revisions] = await Promise.all([
      countMembers(redis, keys, full),
      templateRevisions(redis, keys, full),
    ]);
    const groups = full.map((group, index) => ({
      group,
      component: componentOf(group),
      isEmpty: counts[index] === 0,
      revision: revisions[index] ?? null,
    }));
    const inUse = groups.filter(({ isEmpty }) => !isEmpty);
    await Promise.all([
      ...inUse.map(({ group }) => keepTemplate(redis, keys, group)),
      ...[...new Set(inUse.map(({ group }) => group.split(".")[1] ?? ""))].map((component) =>
        keepSequence(redis, keys, generatedIdBase(component)),
      ),
    ]);
    for (const versions of Map.groupBy(groups, ({ component }) => component).values()) {
      const empty = versions.filter(({ isEmpty }) => isEmpty).sort((a, b) => (b.revision ?? 0) - (a.revision ?? 0));
      for (const [index, { group, revision }] of empty.entries()) {
        if (revision !== null && index < VERSIONS_KEPT) continue;
        // A stitch of this version may have been created since it was read.
        if (revision !== null && !(await dropTemplate(redis, keys, group, revision))) continue;
        if ((await countMembers(redis, keys, [group]))[0] === 0) await dropFromLists(redis, keys, group);
      }
    }
  }

  async #deadLetters(): Promise<void> {
    const { redis, keys } = this.#options;
    for await (const nodes of this.#pagesOfNodes()) await relistDeadLetters(redis, keys, nodes);
    for (const { node } of await nodesWithDeadLetters(redis, keys)) await dropOldDeadLetters(redis, keys, node);
  }

  async #tombstones(): Promise<void> {
    const { redis, keys, deadAfterMs, onUnreadable } = this.#options;
    for await (const ids of this.#pagesOfNodes()) {
      const having = await nodesWithTombstones(redis, keys, ids);
      const nodes = await readNodes(redis, keys, having, onUnreadable);
      for (const node of nodes) {
        const hasObeyed =
          node !== null && livenessOf(node, deadAfterMs) === "alive" && node.readAtMs - node.startedAtMs > SETTLED_MS;
        if (hasObeyed) await dropOldTombstones(redis, keys, node.id);
      }
    }
  }

  /** Renews the specs of stitches and groups, and deletes the assignments of stitches that are long gone. */
  async #specs(): Promise<void> {
    const { redis, keys, onUnreadable } = this.#options;
    const full = await listFullGroups(redis, keys, null, onUnreadable);
    await keepSpecs(redis, keys, await specsOfTemplates(redis, keys, full, onUnreadable));
    // An error with one node must not stop the work for the others.
    for await (const ids of this.#pagesOfNodes())
      for (const id of ids) await this.#specsOf(id).catch(passingOver(onUnreadable));
  }

  async #specsOf(node: string): Promise<void> {
    const { redis, keys, onUnreadable } = this.#options;
    const nowMs = await redisTimeMs(redis, keys.nodeAssigned(node));
    const { specHashes, over } = await surveyAssignments(redis, keys, node, nowMs, onUnreadable);
    await Promise.all([
      keepSpecs(redis, keys, [...specHashes]),
      keepAssignments(redis, keys, node),
      dropAssignments(redis, keys, node, over),
    ]);
  }

  async *#pagesOfNodes(): AsyncGenerator<readonly string[]> {
    for (let after: string | null = null; ; ) {
      const ids: string[] = await listNodeIds(this.#options.redis, this.#options.keys, after, NODES_AT_ONCE);
      yield ids;
      after = ids.at(-1) ?? null;
      if (ids.length < NODES_AT_ONCE) return;
    }
  }
}
