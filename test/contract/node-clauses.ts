// What every Master promises to a node worker by its ports for nodes, as clauses that any implementation is held to.
import assert from "node:assert/strict";
import type { Step, Task } from "../../src/domain/job/job.ts";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { type ProcessSpec, stitchSpec } from "../../src/domain/stitch/spec.ts";
import type { Master, NodePorts } from "../../src/master/ports.ts";
import type { Publication, StitchChange } from "../../src/redis/stitch/stitch-records.ts";
import { until } from "../support/cluster.ts";
import { SUCCEEDED } from "../support/ping-job.ts";
import { hashOf, stored } from "../support/test-spec.ts";
import { testStitch } from "../support/test-stitch.ts";

/** `ports`: of the node `node`, which no worker runs. */
export type NodeWorld = { readonly master: Master; readonly ports: NodePorts; readonly node: string };
export type NodeClause = { readonly title: string; readonly check: (world: NodeWorld) => Promise<void> };

const STATUS = {
  reserved: { cpu: 0, memoryBytes: 0 },
  stitchCount: 1,
  states: { stopped: 1 },
  eligibility: "eligible" as const,
};
const FACTS = { zones: [], labels: {}, capacity: { cpu: 4, memoryBytes: 2 ** 30 }, modules: [], version: "0.1.0" };
const LOAD = { cpuPercent: 0, memoryBytes: 0, eventLoopDelayMs: 0 };
const LONG_MS = 600_000;

const registering = (session: string, leaseMs = LONG_MS, formerSessions: readonly string[] = []) => ({
  session,
  formerSessions,
  leaseMs,
  facts: FACTS,
  status: STATUS,
  leastIncarnation: 0,
});

async function incarnationOf(ports: NodePorts, ...given: Parameters<typeof registering>): Promise<number> {
  const answer = await ports.publishing.register(registering(...given));
  assert.ok(answer.ok, JSON.stringify(answer));
  return answer.incarnation;
}

/** Numbers of publications, from 1 on. */
function numbersOf(incarnation: number): Publication {
  let last = 0;
  return { incarnation, known: 0, draw: () => (last += 1) };
}

const set = (id: string, group: string): StitchChange => ({
  kind: "set",
  record: testStitch(id, { group }),
  isNew: true,
});
const none = () => false;

const WAIT_MS = 10_000;

/** A ping of the node, which nobody takes up by himself. */
async function pingOf(master: Master, node: string) {
  const command = COMMANDS["node.ping"].schema.parse({ command: "node.ping", target: node });
  const submitted = await master.commands.submit({ command, idempotencyKey: null, scope: "", by: null, waitMs: 0 });
  if (submitted.kind !== "job") assert.fail("it is a plan");
  const [{ id } = assert.fail()] = submitted.job.tasks;
  const ping: Step = { action: "ping", stitch: null };
  const task: Task = { id, node, runs: "node", attempt: 1, wave: 0, steps: [ping], refused: null };
  return { job: submitted.job.id, task };
}

export const NODE_CLAUSES = {
  oneWorkerForOneId: {
    title:
      "a node's id has one worker: another is refused while the lease runs, and comes after it as the next incarnation",
    check: async ({ ports }) => {
      const first = await incarnationOf(ports, "one", 1000);
      const refused = await ports.publishing.register(registering("two"));
      assert.ok(!refused.ok && refused.leaseLeftMs > 0 && refused.leaseLeftMs <= 1000, JSON.stringify(refused));
      const second = await until("the lease has ended", async () => {
        const answer = await ports.publishing.register(registering("two"));
        return answer.ok && answer.incarnation;
      });
      assert.ok(second > first);
      const beat = { incarnation: first, leaseMs: LONG_MS, status: STATUS, load: LOAD, beats: 0, leaseUntilHintMs: 0 };
      assert.equal((await ports.publishing.beat({ session: "one", ...beat })).outcome, "other");
    },
  },
  formerLivesAreRefused: {
    title: "what a former incarnation publishes late is refused, and changes nothing",
    check: async ({ master, ports, node }) => {
      const former = await incarnationOf(ports, "one");
      const present = await incarnationOf(ports, "two", LONG_MS, ["one"]);
      await ports.publishing.open();
      const id = `${node}-a`;
      const ok = await ports.publishing.publish([set(id, "contract.now.1")], STATUS, none, numbersOf(present));
      assert.equal(ok.kind, "ok");
      const late = await ports.publishing.publish([set(id, "contract.late.1")], STATUS, none, numbersOf(former));
      assert.equal(late.kind, "other");
      assert.equal((await master.state.stitch(`${node}:${id}`)).group, "contract.now.1");
    },
  },
  whatIsPublishedIsFound: {
    title: "what a node publishes is found by its full id, its bare id and its group, and by the node's next life",
    check: async ({ master, ports, node }) => {
      const incarnation = await incarnationOf(ports, "one");
      await ports.publishing.open();
      const id = `${node}-b`;
      const group = `contract.${node}.1`;
      await ports.publishing.publish([set(id, group)], STATUS, none, numbersOf(incarnation));
      const fullId = `${node}:${id}`;
      assert.deepEqual(await ports.routing.locate(id), [fullId]);
      assert.equal((await master.state.stitch(id)).fullId, fullId);
      const { items } = await master.state.stitches({ limit: 10, cursor: null }, { group });
      assert.deepEqual(
        items.map((each) => each.fullId),
        [fullId],
      );
      const { stitches } = await ports.publishing.published((error) => assert.fail(error));
      assert.deepEqual(
        stitches.map((record) => record.id),
        [id],
      );
    },
  },
  onlyWhatIsAssignedIsCopied: {
    title:
      "what a Master accepted is assigned to its node with its spec; what a node shows is copied only once it is adopted",
    check: async ({ master, ports, node }) => {
      const incarnation = await incarnationOf(ports, "one");
      await ports.publishing.open();
      const ran = async (body: Readonly<Record<string, unknown>> & { readonly command: CommandName }) => {
        const command = COMMANDS[body.command].schema.parse({ deadlineMs: LONG_MS, ...body });
        return master.commands.submit({ command, idempotencyKey: null, scope: "", by: null, waitMs: 0 });
      };
      const isUnknown = (error: unknown) => error instanceof RequestError && error.code === "spec_unknown";
      const created = `${node}-c`;
      const spec = { adaptor: "process", command: [created] };
      await ran({ command: "stitch.create", target: "contract.assigned.1", node, id: created, spec });
      const assigned = await ports.orders.assigned([created, "nobody"], assert.fail);
      const [only, ...others] = assigned.get(created) ?? [];
      assert.deepEqual([only?.group, others, assigned.get("nobody") ?? []], ["contract.assigned.1", [], []]);
      const text = await ports.orders.spec(only?.specHash ?? "", assert.fail);
      const { command } = stitchSpec.parse(JSON.parse(text ?? "")) as ProcessSpec;
      assert.deepEqual([command, hashOf(text ?? "")], [[created], only?.specHash]);

      const shown = stored(stitchSpec.parse({ adaptor: "process", command: [node] }));
      const record = testStitch(`${node}-d`, { ...shown, group: "contract.shown.1" });
      const changes = [{ kind: "set", record, isNew: true }] as const;
      await ports.publishing.publish(changes, STATUS, none, numbersOf(incarnation));
      const clone = () => ran({ command: "stitch.clone", target: `${node}:${record.id}` });
      await assert.rejects(clone(), isUnknown);
      assert.deepEqual(await ports.publishing.missingSpecs([shown.specHash, only?.specHash ?? ""]), [shown.specHash]);
      await ports.publishing.offerSpecs(new Map([[shown.specHash, shown.text]]));
      assert.deepEqual((await master.state.stitch(`${node}:${record.id}`)).spec, shown.spec);
      await assert.rejects(clone(), isUnknown);
      assert.deepEqual((await master.commands.adopt(node)).adopted, [`${node}:${record.id}`]);
      assert.equal(await ports.orders.spec(shown.specHash, assert.fail), shown.text);
      assert.equal((await clone()).kind, "job");
    },
  },
  leavingIsNotDying: {
    title: "a node that leaves has left at once; a life that is over cannot leave for the next one",
    check: async ({ master, ports, node }) => {
      const former = await incarnationOf(ports, "one");
      const incarnation = await incarnationOf(ports, "two", LONG_MS, ["one"]);
      await ports.publishing.leave({ session: "one", incarnation: former });
      assert.equal((await master.state.node(node)).liveness, "alive");
      await ports.publishing.leave({ session: "two", incarnation });
      assert.equal((await master.state.node(node)).liveness, "left");
    },
  },
  taskIsTheLastClaimants: {
    title: "a task is that incarnation's which has claimed it last: what a former one tells of it is dropped",
    check: async ({ master, ports, node }) => {
      const former = await incarnationOf(ports, "one");
      const { job, task } = await pingOf(master, node);
      assert.equal(await ports.orders.claim(job, task, former, null), "ok");
      const present = await incarnationOf(ports, "two", LONG_MS, ["one"]);
      assert.equal(await ports.orders.claim(job, task, present, null), "ok");
      assert.equal(await ports.orders.tell(job, task, former, new Map([[0, SUCCEEDED]]), true, null), false);
      assert.equal((await master.commands.job(job, 0)).status, "running");
      assert.equal(await ports.orders.tell(job, task, present, new Map([[0, SUCCEEDED]]), true, null), true);
      assert.equal((await master.commands.job(job, WAIT_MS)).status, "succeeded");
    },
  },
  whatIsOverIsNotClaimed: {
    title: "a task that was cancelled before a node took it up is not its to carry out",
    check: async ({ master, ports, node }) => {
      const incarnation = await incarnationOf(ports, "one");
      const { job, task } = await pingOf(master, node);
      await master.commands.cancel(job);
      assert.notEqual(await ports.orders.claim(job, task, incarnation, null), "ok");
    },
  },
} satisfies Record<string, NodeClause>;
