import type { Assigned } from "../../../src/domain/job/assignment.ts";
import { COMMANDS, type Command } from "../../../src/domain/commands/command.ts";
import type { CommandName } from "../../../src/domain/commands/command-names.ts";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { NodeRecord } from "../../../src/domain/node/node.ts";
import type { Observed, KnownStitch } from "../../../src/domain/planning/observed.ts";
import { planCommand } from "../../../src/domain/commands/plan.ts";
import type { Plan } from "../../../src/domain/planning/planned.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import { type StitchRecord, toldOf } from "../../../src/domain/stitch/stitch.ts";
import { specOf, stored } from "../../support/test-spec.ts";

/** A create of a process that reserves nothing, as a client sends it. */
export const CREATE = { target: "shop.orders.1", spec: { adaptor: "process", command: ["x"] } } as const;

/** The command as a client sends it, checked and with its defaults. */
export const checked = <Name extends CommandName>(command: Name, body: object): Extract<Command, { command: Name }> =>
  COMMANDS[command].schema.parse({ command, ...body }) as Extract<Command, { command: Name }>;

export { specOf, stored };

/** The plan of a command. For a create, the spec is as a Master has it. */
export function planned(command: Command, seen: Observed): Plan {
  if (command.command !== "stitch.create") return planCommand(command, seen);
  const reschedule = command.spec.reschedule ?? command.node === undefined;
  return planCommand(command, { ...seen, toStore: stored({ ...command.spec, reschedule }) });
}

/** A node that is alive and eligible at 1000. */
export const node = (id: string, over: Partial<NodeRecord> = {}): NodeRecord => ({
  id,
  incarnation: 1,
  leaseUntilMs: 2000,
  leftAtMs: null,
  startedAtMs: 0,
  lastBeatAtMs: 0,
  facts: { zones: [], labels: {}, capacity: { cpu: 4, memoryBytes: 400 }, modules: [], version: "1" },
  status: { reserved: { cpu: 0, memoryBytes: 0 }, stitchCount: 0, states: {}, eligibility: "eligible" as const },
  load: null,
  eligibility: "eligible",
  uncordonedBy: 0,
  deadIncarnation: null,
  readAtMs: 1000,
  ...over,
});

/** The state at 1000, where a node is suspect for 100 ms after its lease. By default: one node `n1` and no stitches. */
export const observed = (over: Partial<Observed> = {}): Observed => ({
  nowMs: 1000,
  deadAfterMs: 100,
  nodes: [node("n1")],
  stitches: [],
  movedTo: null,
  ofGroup: new Map(),
  records: new Map(),
  assigned: assignedOf(over.records ?? new Map()),
  homes: new Map(),
  withData: new Set(),
  template: null,
  toStore: null,
  firstNumber: 1,
  ...over,
});

/** What Masters have assigned if they have assigned all these stitches. */
const assignedOf = (records: ReadonlyMap<string, StitchRecord>): Map<string, Assigned> =>
  new Map(
    [...records].map(([id, { specHash, group, placement, born }]) => [
      id,
      { specHash, spec: specOf({ specHash }), group, placement, born, placed: born },
    ]),
  );

type Differs = Partial<StitchRecord> & { readonly spec?: StitchSpec };

const SPEC = { ...checked("stitch.create", CREATE).spec, reschedule: true };

/** A stitch of `CREATE`'s group that runs and is green. */
export const record = (id: string, { spec = SPEC, ...over }: Differs = {}): StitchRecord => ({
  id: splitFullId(id).stitch,
  group: CREATE.target,
  specHash: stored(spec).specHash,
  ...toldOf(spec),
  placement: { strategy: "spread" },
  movedFrom: null,
  desired: "running",
  state: "running",
  health: "green",
  healthySinceMs: 0,
  revision: "1.0",
  born: "1.0",
  outcome: null,
  finished: false,
  restarts: 0,
  pid: 1,
  startedAtMs: 0,
  lastExit: null,
  observedAtMs: 0,
  mailAfter: null,
  ...over,
});

/** The same stitch as a Master sees it before it moves it. */
export function placed(id: string, differs: Differs = {}): KnownStitch {
  const its = record(id, differs);
  const assigned = assignedOf(new Map([[id, its]])).get(id);
  if (assigned === undefined) throw new Error(`${id} is not assigned`);
  return { id, record: its, assigned };
}

/** Stitches made by `record`, counted on their nodes; the home of each id is the node in its full id. */
export function withStitches(records: ReadonlyMap<string, StitchRecord>): Partial<Observed> {
  const ofGroup = new Map<string, Map<string, number>>();
  const homes = new Map<string, Set<string>>();
  for (const [id, { group }] of records) {
    const { node: on, stitch } = splitFullId(id);
    const perNode = ofGroup.get(group) ?? new Map<string, number>();
    ofGroup.set(group, perNode.set(on, (perNode.get(on) ?? 0) + 1));
    homes.set(stitch, (homes.get(stitch) ?? new Set<string>()).add(on));
  }
  return { stitches: [...records.keys()], records, ofGroup, homes };
}
