import type { Assigned } from "../../domain/job/assignment.ts";
import type { Look } from "../../domain/commands/definition.ts";
import type { Aftermath } from "../../domain/commands/follow-up.ts";
import { fullId } from "../../domain/names/ids.ts";
import type { Replacement, StitchStep } from "../../domain/job/job.ts";
import { means } from "../../domain/planning/meant.ts";
import type { Observed } from "../../domain/planning/observed.ts";
import { countWell } from "../../domain/planning/replacement.ts";
import { parseRevision } from "../../domain/names/revision.ts";
import { readAssignments } from "../../redis/stitch/assignments.ts";
import { readTemplate, type StoredTemplate } from "../../redis/stitch/group-template.ts";
import {
  listStitchesOfNode,
  readRemoved,
  readStitches,
  readStitchesOfNode,
} from "../../redis/stitch/stitch-records.ts";
import { groupsByRoute } from "../../redis/stitch/pointers.ts";
import {
  assignmentsOf,
  begun,
  nodeOf,
  perNode,
  ObservedReader,
  type ObservedReaderOptions,
} from "./observed-reader.ts";
import { toBeStored } from "./spec-store.ts";

/** Most moves to follow to find where a stitch lives now. */
const MOST_MOVES = 5;

/** Reads from Redis what commands and jobs are planned from. In addition to `Look`: reports what cannot be read. */
export class Observer implements Look {
  readonly #options: ObservedReaderOptions;
  readonly #read: ObservedReader;

  constructor(options: ObservedReaderOptions) {
    this.#options = options;
    this.#read = new ObservedReader(options);
  }

  /** The same observer with the time of the Redis that has the job: that Redis compares the job's deadline. */
  forJob(id: string): Observer {
    return new Observer({ ...this.#options, clock: this.#options.keys.job(id) });
  }

  node(id: string): Promise<Observed> {
    return this.#read.observed({}, { nodes: this.#read.nodes([id]) });
  }

  async nodeToEmpty(id: string): Promise<Observed> {
    const [observed] = await Promise.all([this.drain(id), this.#read.nodes([id])]);
    return observed;
  }

  newStitches({ group, node, id, count, spec }: Parameters<Look["newStitches"]>[0], draw: boolean): Promise<Observed> {
    return this.#read.observed(
      {},
      {
        nodes: this.#read.nodes(node === undefined ? null : [node]),
        ofGroup: this.#read.countByNode([group]),
        firstNumber: id !== undefined ? 1 : this.#read.freeNumbers(group, draw ? count : 0),
        stitches: id === undefined ? [] : this.#read.existing(id, node),
        toStore: toBeStored(spec),
      },
    );
  }

  async placeOf(ref: string): Promise<{ readonly id: string; readonly group: string } | null> {
    const { seen } = await this.#read.meantWithRecord(ref);
    const [place] = seen?.assignments ?? [];
    return place === undefined ? null : { id: place[0], group: place[1].group };
  }

  async groupsOn(node: string): Promise<readonly string[]> {
    const { redis, keys, onUnreadable } = this.#options;
    const stitches = await readStitchesOfNode(redis, keys, node, onUnreadable);
    return [...new Set(stitches.map(({ group }) => group))];
  }

  async stitch(ref: string): Promise<Observed> {
    const meant = this.#read.meantWithNodes(ref);
    const observed = await this.#read.observed({}, { nodes: meant.then(({ nodes }) => nodes) });
    return { ...observed, ...(await meant) };
  }

  async stitchToClone(ref: string, toNode: string | undefined, draw: boolean): Promise<Observed> {
    const nodes = begun(this.#read.nodes(toNode === undefined ? null : [toNode]));
    const meant = await this.#read.meantWithRecord(ref);
    if (meant.seen === null) return this.#read.observed(meant.known, {});
    const { records, assignments } = meant.seen;
    const [assignment] = assignments.values();
    return this.#read.observed(
      { ...meant.known, records },
      {
        nodes,
        assigned: this.#read.withSpecs(assignments),
        ...(assignment === undefined
          ? {}
          : {
              ofGroup: this.#read.countByNode([assignment.group]),
              firstNumber: this.#read.freeNumbers(assignment.group, draw ? 1 : 0),
            }),
      },
    );
  }

  async stitchToMove(ref: string, toNode: string | undefined): Promise<Observed> {
    const all = toNode === undefined ? begun(this.#read.nodes(null)) : null;
    const meant = await this.#read.meantWithRecord(ref);
    if (meant.seen === null) return this.#read.observed(meant.known, {});
    const { stitches } = meant.known;
    const from = stitches.map(nodeOf);
    const [observed] = await Promise.all([
      this.#read.movable(
        stitches,
        meant.seen,
        all ?? this.#read.nodes([...from, ...(toNode === undefined ? [] : [toNode])]),
      ),
      this.#read.nodes(from),
    ]);
    return observed;
  }

  async members(group: string): Promise<Observed> {
    const { redis, keys, onUnreadable } = this.#options;
    const { groups, members } = await this.#read.pointersInside(group);
    const ids = [...new Set(members.map(nodeOf))].sort();
    const [there, groupsNow, observed] = await Promise.all([
      Promise.all(ids.map((node) => listStitchesOfNode(redis, keys, node, onUnreadable))),
      groupsByRoute(redis, keys, members),
      this.#read.observed({}, { nodes: this.#read.nodesOf(members) }),
    ]);
    // Pointers may be stale: a stitch that is gone must not fail the job, and another stitch that now has the id is not a
    // member. A lost route must not hide a member that exists.
    const exist = new Set(there.flatMap((stitches, index) => stitches.map((each) => fullId(ids[index] ?? "", each))));
    const ofGroup = new Set(groups);
    const isOfGroup = (now: string | null | undefined) => now == null || ofGroup.has(now);
    return { ...observed, stitches: members.filter((id, index) => exist.has(id) && isOfGroup(groupsNow[index])) };
  }

  async membersWithRecords(group: string): Promise<Observed> {
    const { groups, members } = await this.#read.pointersInside(group);
    const [found, observed] = await Promise.all([
      this.#read.membersAmong(groups, members),
      this.#read.observed({}, { nodes: this.#read.nodesOf(members) }),
    ]);
    return { ...observed, ...found };
  }

  async groupToSpread(group: string): Promise<Observed> {
    const nodes = begun(this.#read.nodes(null));
    const { groups, members } = await this.#read.pointersInside(group);
    const { stitches, ...seen } = await this.#read.membersWithAssignments(groups, members);
    return this.#read.movable(stitches, seen, nodes);
  }

  async groupToScale(group: string, count: number, draw: boolean): Promise<Observed> {
    const { redis, keys, onUnreadable } = this.#options;
    const nodes = begun(this.#read.nodes(null));
    const [{ members }, stored] = await Promise.all([
      this.#read.pointersInside(group),
      readTemplate(redis, keys, group, onUnreadable),
    ]);
    // Each member has a pointer; a pointer may be stale, and then more numbers are needed.
    const missing = Math.max(0, count - members.length);
    const [{ stitches, records, assignments }, drawn, observed, template] = await Promise.all([
      this.#read.membersWithAssignments([group], members),
      this.#read.freeNumbers(group, draw ? missing : 0),
      this.#read.observed({ ofGroup: new Map([[group, perNode(members)]]) }, { nodes }),
      stored === null ? null : this.#template(stored),
    ]);
    const needed = count - stitches.length;
    const [firstNumber, assigned] = await Promise.all([
      draw && needed > missing ? this.#read.freeNumbers(group, needed) : drawn,
      stored === null ? this.#read.withSpecs(assignments) : new Map<string, Assigned>(),
    ]);
    return { ...observed, stitches, records, firstNumber, assigned, ...template };
  }

  /** The template for new stitches; and its spec, if it differs from the one in the store. */
  async #template({
    specHash,
    reschedule,
    placement,
  }: StoredTemplate): Promise<Pick<Observed, "template" | "toStore">> {
    const spec = (await this.#read.specs.read([specHash])).get(specHash);
    if (spec === undefined) return { template: null, toStore: null };
    if (spec.reschedule === reschedule) return { template: { specHash, spec, placement }, toStore: null };
    const toStore = await toBeStored({ ...spec, reschedule });
    return { template: { ...toStore, placement }, toStore };
  }

  /** A node that is being drained: its stitches, and where they could go. */
  async drain(node: string): Promise<Observed> {
    const nodes = begun(this.#read.nodes(null));
    const seen = await this.#read.stitchesOn(node);
    return this.#read.movable([...seen.records.keys()].sort(), seen, nodes);
  }

  /** How many stitches of the group that takes over have been healthy for long enough. */
  async well(replacement: Replacement): Promise<number> {
    return countWell(replacement, await this.membersWithRecords(replacement.group));
  }

  /** What the steps of an earlier job have left: existing stitches, their nodes, and the removed records of the others. */
  async aftermath(steps: readonly StitchStep[]): Promise<Aftermath> {
    const { redis, keys, onUnreadable } = this.#options;
    const ids = steps.map(({ stitch }) => stitch);
    const [records, left, assignments] = await Promise.all([
      this.#read.records(ids),
      Promise.all(ids.map((id) => readRemoved(redis, keys, id, onUnreadable))),
      readAssignments(redis, keys, ids, onUnreadable),
    ]);
    const removed = new Map(
      ids.flatMap((id, index) => {
        const record = left[index];
        return record == null ? [] : [[id, record] as const];
      }),
    );
    // A new placement takes into account the stitches that the group has by now.
    const creates = steps.filter((step) => step.action === "create");
    const [observed, specs] = await Promise.all([
      this.#read.observed(
        { stitches: [...records.keys()], records },
        {
          nodes: this.#read.nodes(null),
          ofGroup: this.#read.countByNode([...new Set(creates.map(({ group }) => group))]),
          assigned: this.#read.withSpecs(
            new Map([...assignmentsOf(removed, assignments, true), ...assignmentsOf(removed, assignments)]),
          ),
        },
      ),
      this.#read.specs.read(creates.map(({ specHash }) => specHash)),
    ]);
    return { ...observed, removed, specs };
  }

  /**
   * Where the stitches of a job's steps live now, if they have moved since the job's revision, by the full ids they had then.
   * Other stitches are left out. Older moves are not followed, and no move of another stitch that has had the id since.
   */
  async movedSince(revision: number, steps: readonly StitchStep[]): Promise<Map<string, string>> {
    const { redis, keys, onUnreadable } = this.#options;
    const moved = new Map<string, string>();
    let lookedFor: readonly StitchStep[] = steps;
    for (let moves = 0; moves < MOST_MOVES && lookedFor.length > 0; moves++) {
      const at = lookedFor.map(({ stitch }) => moved.get(stitch) ?? stitch);
      const [records, removed] = await Promise.all([
        readStitches(redis, keys, at, onUnreadable),
        Promise.all(at.map((id) => readRemoved(redis, keys, id, onUnreadable))),
      ]);
      lookedFor = lookedFor.filter((step, index) => {
        const [there, left] = [records[index], removed[index]];
        if (there != null && means(step, revision, there.born)) return false;
        if (left?.movedTo == null || !means(step, revision, left.born)) return false;
        if (parseRevision(left.revision).revision <= revision) return false;
        moved.set(step.stitch, left.movedTo);
        return true;
      });
    }
    return moved;
  }
}
