import type { PlacementOptions } from "../stitch/placement-options.ts";
import { type Eligibility, isPresent, type Liveness, type NodeRecord, shortOf } from "../node/node.ts";
import type { Refusal, RefusalCode } from "./refusal.ts";
import type { Resources, StitchSpec } from "../stitch/spec.ts";

/** A node as placement sees it. `ofGroup`: how many stitches of the group it has already. */
export type Candidate = {
  readonly id: string;
  readonly liveness: Liveness;
  readonly eligibility: Eligibility;
  readonly zones: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly modules: readonly string[];
  readonly capacity: Resources;
  readonly reserved: Resources;
  readonly cpuPercent: number;
  readonly ofGroup: number;
};

export type Placed = { readonly node: string; readonly reason: string };
type Placement =
  | { readonly placed: readonly Placed[]; readonly refusals: readonly Refusal[] }
  | { readonly placed: null; readonly refusals: readonly Refusal[] };

/** Why a node is refused, at most one reason for each node: the first rule it breaks, in the order a person would check. */
function refusalOf(
  node: Candidate,
  spec: StitchSpec,
  wish: PlacementOptions,
): { code: RefusalCode; message: string } | null {
  if (node.liveness !== "alive") return { code: "not_alive", message: `the node is ${node.liveness}` };
  if (node.eligibility === "cordoned")
    return { code: "cordoned", message: "the node is cordoned; node.uncordon lets it take new stitches" };
  if (node.eligibility === "draining")
    return { code: "draining", message: "the node is draining; node.uncordon ends that" };
  if (wish.zones !== undefined && !wish.zones.some((zone) => node.zones.includes(zone)))
    return { code: "zone", message: `not in zone ${wish.zones.join(" or ")}` };
  for (const [label, value] of Object.entries(wish.labels ?? {})) {
    if (!Object.hasOwn(node.labels, label) || node.labels[label] !== value)
      return { code: "label", message: `has no label ${label}=${value}` };
  }
  if (spec.adaptor === "module" && !node.modules.includes(spec.module))
    return { code: "module_missing", message: `does not offer the module ${spec.module}` };
  if (wish.maxPerNode !== undefined && node.ofGroup >= wish.maxPerNode)
    return { code: "max_per_node", message: `has ${node.ofGroup} of the group already` };
  const short = shortOf(node.capacity, node.reserved, spec.resources);
  if (short !== null) {
    const left =
      node.capacity[short === "cpu" ? "cpu" : "memoryBytes"] - node.reserved[short === "cpu" ? "cpu" : "memoryBytes"];
    const asked = short === "cpu" ? spec.resources.cpu : spec.resources.memoryBytes;
    return { code: short, message: `${asked} asked, ${Math.max(0, left)} left` };
  }
  return null;
}

/** How full a node is by what is reserved, 0 to 1: the fuller of CPU and memory. */
export function fullness(node: Candidate): number {
  const cpu = node.capacity.cpu > 0 ? node.reserved.cpu / node.capacity.cpu : 0;
  const memory = node.capacity.memoryBytes > 0 ? node.reserved.memoryBytes / node.capacity.memoryBytes : 0;
  return Math.max(cpu, memory);
}

/** How many stitches of the group each zone has, on nodes that are present. */
function countByZone(nodes: readonly Candidate[]): Map<string, number> {
  const perZone = new Map<string, number>();
  for (const { liveness, zones, ofGroup } of nodes) {
    if (!isPresent(liveness)) continue;
    for (const zone of new Set(zones)) perZone.set(zone, (perZone.get(zone) ?? 0) + ofGroup);
  }
  return perZone;
}

const fullestZone = (perZone: ReadonlyMap<string, number>, node: Candidate): number =>
  Math.max(0, ...node.zones.map((zone) => perZone.get(zone) ?? 0));

/** How many stitches of the group each node has: in its fullest zone, then on the node itself. `spread` keeps these low. */
export function crowding(nodes: readonly Candidate[]): (id: string) => readonly [inZones: number, onNode: number] {
  const perZone = countByZone(nodes);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  return (id) => {
    const node = byId.get(id);
    return node === undefined ? [0, 0] : [fullestZone(perZone, node), node.ofGroup];
  };
}

/**
 * Chooses a node for each of `count` stitches of one group, one after the other. Each choice sees the ones before it.
 *
 * `spread`: fewest stitches of the group in the node's zones, then on the node, then least reserved. `binpack`: the node with
 * most reserved that fits. Measured load breaks ties, then the id, so that the same state gives the same answer.
 *
 * All or none: if not all fit, `placed` is null. `refusals` has a reason for every node that cannot take one (more) stitch.
 *
 * @param inZone the nodes that count for how full a zone is, if these are more than the nodes to choose from.
 */
export function place(
  nodes: readonly Candidate[],
  spec: StitchSpec,
  wish: PlacementOptions,
  count: number,
  inZone: readonly Candidate[] = nodes,
): Placement {
  const live = new Map(nodes.map((node) => [node.id, { ...node }]));
  const perZone = countByZone(inZone);
  const inZones = (node: Candidate) => fullestZone(perZone, node);
  const refused = (): Refusal[] =>
    [...live.values()]
      .sort((a, b) => (a.id < b.id ? -1 : 1))
      .flatMap((node) => {
        const why = refusalOf(node, spec, wish);
        return why === null ? [] : [{ node: node.id, ...why }];
      });
  const refusals = refused();
  const before = (a: Candidate, b: Candidate): number =>
    (wish.strategy === "spread"
      ? inZones(a) - inZones(b) || a.ofGroup - b.ofGroup || fullness(a) - fullness(b)
      : fullness(b) - fullness(a)) ||
    a.cpuPercent - b.cpuPercent ||
    (a.id < b.id ? -1 : 1);
  let open = [...live.values()].filter((node) => refusalOf(node, spec, wish) === null);
  const placed: Placed[] = [];
  while (placed.length < count) {
    const best = open.reduce<(typeof open)[number] | null>(
      (chosen, node) => (chosen === null || before(node, chosen) < 0 ? node : chosen),
      null,
    );
    if (best === null) return { placed: null, refusals: refused() };
    placed.push({
      node: best.id,
      reason:
        wish.strategy === "spread"
          ? `spread: ${best.ofGroup} of the group on the node, ${inZones(best)} in its zones`
          : `binpack: ${Math.round(fullness(best) * 100)} % reserved`,
    });
    best.ofGroup += 1;
    best.reserved = {
      cpu: best.reserved.cpu + spec.resources.cpu,
      memoryBytes: best.reserved.memoryBytes + spec.resources.memoryBytes,
    };
    for (const zone of new Set(best.zones)) perZone.set(zone, (perZone.get(zone) ?? 0) + 1);
    if (refusalOf(best, spec, wish) !== null) open = open.filter((node) => node !== best);
  }
  return { placed, refusals };
}

/** A node record as placement sees it. */
export function candidateOf(node: NodeRecord, liveness: Liveness, ofGroup: number): Candidate {
  return {
    id: node.id,
    liveness,
    eligibility: node.eligibility,
    zones: node.facts.zones,
    labels: node.facts.labels,
    modules: node.facts.modules,
    capacity: node.facts.capacity,
    reserved: node.status.reserved,
    cpuPercent: node.load?.cpuPercent ?? 0,
    ofGroup,
  };
}

const SHOWN = 3;

/** Why nothing was placed, in a few words. */
export function refusalText(refusals: readonly Refusal[]): string {
  if (refusals.length === 0) return "there is no node";
  const shown = refusals.slice(0, SHOWN).map(({ node, message }) => `${node}: ${message}`);
  const more = refusals.length > SHOWN ? `; and ${refusals.length - SHOWN} more` : "";
  return shown.join("; ") + more;
}

/** The refusals of nodes for several stitches: each reason of a node once. */
export const eachOnce = (refusals: readonly Refusal[]): Refusal[] => [
  ...new Map(refusals.map((each) => [`${each.node} ${each.code}`, each])).values(),
];
