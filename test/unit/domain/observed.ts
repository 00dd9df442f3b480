import { COMMANDS, type Command, type CommandName } from "../../../src/domain/command.ts";
import type { NodeRecord } from "../../../src/domain/node.ts";
import type { Observed } from "../../../src/domain/plan.ts";

/** A create of a process that asks for nothing, as a client sends it. */
export const CREATE = { target: "shop.orders.1", spec: { adaptor: "process", command: ["x"] } } as const;

/** The command as a client sends it, checked and with its defaults. */
export const checked = <Name extends CommandName>(command: Name, body: object): Extract<Command, { command: Name }> =>
  COMMANDS[command].parse({ command, ...body }) as Extract<Command, { command: Name }>;

/** A node that is alive and eligible at 1000. */
export const node = (id: string, over: Partial<NodeRecord> = {}): NodeRecord => ({
  id,
  incarnation: 1,
  leaseUntilMs: 2000,
  leftAtMs: null,
  startedAtMs: 0,
  lastBeatAtMs: 0,
  facts: { zones: [], labels: {}, capacity: { cpu: 4, memoryBytes: 400 }, modules: [], version: "1" },
  status: { reserved: { cpu: 0, memoryBytes: 0 }, stitchCount: 0, states: {} },
  load: null,
  eligibility: "eligible",
  deadIncarnation: null,
  ...over,
});

/** At 1000, a node is suspect for 100 ms past its lease. One node `n1` and no stitches, unless told. */
export const observed = (over: Partial<Observed> = {}): Observed => ({
  nowMs: 1000,
  deadAfterMs: 100,
  nodes: [node("n1")],
  stitches: [],
  ofGroup: new Map(),
  source: null,
  firstNumber: 1,
  ...over,
});
