import { type Candidate, place } from "./placement.ts";
import type { PlacementOptions } from "../stitch/placement-options.ts";
import type { Refusal } from "./refusal.ts";
import type { Resources, StitchSpec } from "../stitch/spec.ts";

/** What needs a node: a stitch of a group, by its spec and where it may live. */
export type PlacementRequest = {
  readonly group: string;
  readonly spec: StitchSpec;
  readonly placement: PlacementOptions;
};

type OnNode = Omit<Candidate, "ofGroup">;

/**
 * The room on the nodes while stitches are placed: each placement sees the ones before it, of any group. A move first takes
 * the stitch away from its node (`leave`).
 */
export class Capacity {
  readonly #nodes: Map<string, OnNode>;
  /** Group → node → how many stitches. */
  readonly #counts = new Map<string, Map<string, number>>();

  constructor(nodes: readonly OnNode[], counts: ReadonlyMap<string, ReadonlyMap<string, number>>) {
    this.#nodes = new Map(nodes.map((node) => [node.id, node]));
    for (const [group, perNode] of counts) this.#counts.set(group, new Map(perNode));
  }

  count(group: string, node: string): number {
    return this.#counts.get(group)?.get(node) ?? 0;
  }

  /** The nodes as placement sees them, for a stitch of the group. */
  candidates(group: string): Candidate[] {
    return [...this.#nodes.values()].map((node) => ({ ...node, ofGroup: this.count(group, node.id) }));
  }

  /** Takes a stitch away from its node. */
  leave(node: string, { group, spec }: PlacementRequest): void {
    this.#change(node, group, spec.resources, -1);
  }

  /** Adds a stitch to a node. */
  enter(node: string, { group, spec }: PlacementRequest): void {
    this.#change(node, group, spec.resources, 1);
  }

  /** The node where a stitch would be placed now, but none of `not`. Changes nothing. */
  homeFor(
    { group, spec, placement }: PlacementRequest,
    not: ReadonlySet<string>,
  ): { node: string; reason: string } | { node: null; refusals: readonly Refusal[] } {
    const open = this.candidates(group).filter(({ id }) => !not.has(id));
    const { placed, refusals } = place(open, spec, placement, 1, this.candidates(group));
    const [home] = placed ?? [];
    return home ?? { node: null, refusals };
  }

  #change(id: string, group: string, { cpu, memoryBytes }: Resources, by: 1 | -1): void {
    const perNode = this.#counts.get(group) ?? new Map<string, number>();
    this.#counts.set(group, perNode);
    perNode.set(id, Math.max(0, (perNode.get(id) ?? 0) + by));
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    const reserved = {
      cpu: node.reserved.cpu + by * cpu,
      memoryBytes: Math.max(0, node.reserved.memoryBytes + by * memoryBytes),
    };
    this.#nodes.set(id, { ...node, reserved: { ...reserved, cpu: Math.max(0, reserved.cpu) } });
  }
}
