import fc from "fast-check";
import type { CommandOf } from "../../../src/domain/commands/command.ts";
import { checked } from "./observed.ts";
import {
  type Act,
  ACTS,
  DEADLINE_MS,
  type Layout,
  SimulatedCluster,
  TIMEOUT_MS,
  type Turn,
} from "./simulated-cluster.ts";
import type { Temper } from "./simulated-node.ts";

const NODES = ["n1", "n2", "n3"] as const;
const IDS = ["s1", "s2", "s3", "s4", "s5"] as const;
const GROUP = "shop.orders.1";
const NEWER = "shop.orders.2";
const TEMPERS: readonly Temper[] = ["late", "never", "fails"];
const LONG = { timeoutMs: TIMEOUT_MS, deadlineMs: DEADLINE_MS };

/** Three nodes, in no zone, in two zones or in three, and up to five stitches on any of them. */
const home = fc.constantFrom(...NODES);
const layout = fc
  .record({
    zones: fc.constantFrom([[], [], []], [["a"], ["a"], ["b"]], [["a"], ["b"], ["c"]]),
    homes: fc.tuple(home, home, home, home, home),
    many: fc.integer({ min: 1, max: IDS.length }),
  })
  .map(
    ({ zones, homes, many }): Layout => ({
      nodes: Object.fromEntries(NODES.map((id, index) => [id, zones[index] ?? []])),
      stitches: IDS.slice(0, many).map((id, index) => `${homes[index] ?? "n1"}:${id}`),
    }),
  );

/** How some stitches behave when they are started on some nodes; a scale makes `orders-100` and the following. */
const tempers = fc
  .array(
    fc.record({
      on: fc.constantFrom(...NODES),
      id: fc.constantFrom(...IDS, "orders-100", "orders-101", "orders-102"),
      temper: fc.constantFrom(...TEMPERS),
    }),
    { maxLength: 6 },
  )
  .map((all) => Object.fromEntries(all.map(({ on, id, temper }) => [`${on}:${id}`, temper] as const)));

export const turnsOf = (acts: readonly Act[], most = 60) =>
  fc.array(fc.record({ act: fc.constantFrom(...acts), pick: fc.nat(29) }), { maxLength: most, size: "max" });
/** Anything may happen to a job, except that users command its stitches. */
export const FAULTS: readonly Act[] = [...ACTS, "lose the queue", "lose the work", "long wait", "cancel"];
export const faults = turnsOf(FAULTS);
export const anything = turnsOf([...FAULTS, "user", "user removes", "uncordon"]);
/** Nothing goes wrong; only the order varies. */
export const calm = turnsOf(["deliver", "work", "load", "save", "save and die", "dispatch", "sweep"]);

type OrchestratedCommand = CommandOf<
  "group.restart" | "group.scale" | "stitch.move" | "group.rebalance" | "group.stopOldVersions" | "node.drain"
>;
const waitForNode = fc.constantFrom(false, false, true);
const JOBS = {
  "group.restart": fc
    .record({ batch: fc.constantFrom(1, 2, 3, "50%"), waitForNode })
    .map((more): OrchestratedCommand => checked("group.restart", { target: GROUP, ...LONG, ...more })),
  "group.scale": fc
    .record({ count: fc.nat(8), waitForNode })
    .map((more): OrchestratedCommand => checked("group.scale", { target: GROUP, ...LONG, ...more })),
  "stitch.move": waitForNode.map(
    (wait): OrchestratedCommand => checked("stitch.move", { target: "s1", ...LONG, waitForNode: wait }),
  ),
  "group.rebalance": waitForNode.map(
    (wait): OrchestratedCommand => checked("group.rebalance", { target: GROUP, ...LONG, waitForNode: wait }),
  ),
  "group.stopOldVersions": fc
    .record({ minHealthyMs: fc.constantFrom(0, 1000, 2500), force: fc.constantFrom(false, false, true), waitForNode })
    .map((more): OrchestratedCommand => checked("group.stopOldVersions", { target: NEWER, ...LONG, ...more })),
  "node.drain": fc
    .record({ forceAfterMs: fc.constantFrom(0, 5000, 20_000), waitForNode })
    .map((more): OrchestratedCommand => checked("node.drain", { target: "n1", ...LONG, ...more })),
} as const;
type JobName = keyof typeof JOBS;
export const JOB_NAMES = [
  "group.restart",
  "group.scale",
  "stitch.move",
  "group.rebalance",
  "group.stopOldVersions",
  "node.drain",
] as const;

export type Scenario = {
  readonly layout: Layout;
  readonly command: OrchestratedCommand;
  readonly turns: readonly Turn[];
};

/** The same layout in which one or more stitches are of a newer version, and some of these turn green later. */
const twoVersions = fc
  .tuple(
    layout,
    fc.subarray([1, 2, 3, 4]),
    fc.array(fc.constantFrom(0, 1500, 2500, 50_000), { minLength: 5, maxLength: 5 }),
  )
  .map(([of, newer, greenAtMs]): Layout => {
    const ids = [0, ...newer].flatMap((index) => of.stitches[index] ?? []);
    return {
      ...of,
      groups: Object.fromEntries(ids.map((id) => [id, NEWER])),
      greenAtMs: Object.fromEntries(ids.map((id, index) => [id, greenAtMs[index] ?? 0])),
    };
  });

export const scenarios = (name: JobName, turns: fc.Arbitrary<Turn[]>, hasTempers = true): fc.Arbitrary<Scenario> =>
  fc
    .record({ layout: name === "group.stopOldVersions" ? twoVersions : layout, tempers, command: JOBS[name], turns })
    .map(({ tempers: some, ...rest }) => ({
      ...rest,
      layout: hasTempers ? { ...rest.layout, tempers: some } : rest.layout,
    }));

/**
 * Carries a job out to its end.
 * @param check is called after every act.
 * @param order varies the order in which nodes work once nothing breaks any more.
 */
export function runToEnd(
  { layout: on, command, turns }: Scenario,
  check: (cluster: SimulatedCluster) => void = () => undefined,
  order = 0,
) {
  const cluster = new SimulatedCluster(on, command);
  check(cluster);
  for (const turn of turns) {
    cluster.do(turn);
    check(cluster);
  }
  cluster.finish(() => check(cluster), order);
  return cluster;
}
