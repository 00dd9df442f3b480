// What every Master promises by its ports (src/master/ports.ts), as clauses that any implementation is held to.
import assert from "node:assert/strict";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { RequestError } from "../../src/domain/errors.ts";
import type { Master, Submission, Submitted } from "../../src/master/ports.ts";
import { type TestCluster, until } from "../support/cluster.ts";
import { createMail, takenBy } from "../support/mail.ts";
import { registerTestNode } from "../support/register-test-node.ts";

/**
 * The nodes n1 and n2 run, with the module `mail`; no master worker does.
 * `other`: a second Master of the same kind, as another process would have it. `name`: of this clause, to name things by.
 */
export type World = {
  readonly master: Master;
  readonly other: Master;
  readonly cluster: TestCluster;
  readonly name: string;
};
export type Clause = { readonly title: string; readonly check: (world: World) => Promise<void> };

const SLEEPS = { adaptor: "process", protocol: "none", command: ["sleep", "600"], minHealthyMs: 0 };
const WAIT_MS = 30_000;
/** For what takes a second or two; a Master that breaks its promise is waited for as long. */
const LIMIT_MS = 10_000;
const FIRST = { limit: 100, cursor: null };

type Body = { readonly command: CommandName } & Readonly<Record<string, unknown>>;

const submit = (master: Master, body: Body, more: Partial<Submission> = {}): Promise<Submitted> =>
  master.commands.submit({
    command: COMMANDS[body.command].schema.parse(body),
    idempotencyKey: null,
    scope: "",
    by: null,
    waitMs: 0,
    ...more,
  });

async function jobOf(master: Master, body: Body, more: Partial<Submission> = {}) {
  const submitted = await submit(master, body, more);
  return submitted.kind === "job" ? submitted.job : assert.fail("it is a plan");
}

const createOf = (name: string, more: Readonly<Record<string, unknown>> = {}): Body => ({
  command: "stitch.create",
  target: `contract.${name}.1`,
  node: "n1",
  id: name,
  spec: SLEEPS,
  ...more,
});

/** Fails unless `work` is refused with this code. */
const refused = (code: string, work: Promise<unknown>): Promise<void> =>
  assert.rejects(work, (error) => error instanceof RequestError && error.code === code);

export const CLAUSES = {
  oneJobForOneKey: {
    title: "the same command with the same key is one job, whichever Master is asked; another command is refused",
    check: async ({ master, other, name }) => {
      const key = { idempotencyKey: `key-${name}` };
      const first = await jobOf(master, createOf(name, { start: false }), key);
      const again = await submit(other, createOf(name, { start: false }), key);
      assert.deepEqual(
        [again.kind === "job" && again.job.id, again.kind === "job" && again.replayed],
        [first.id, true],
      );
      await refused("idempotency_conflict", submit(master, createOf(name), key));
    },
  },
  dryRunChangesNothing: {
    title: "a dry run is a plan, and changes nothing",
    check: async ({ master, name }) => {
      const { kind } = await submit(master, createOf(name, { dryRun: true }), { waitMs: WAIT_MS });
      assert.equal(kind, "plan");
      const { items } = await master.commands.jobs(FIRST, { target: `contract.${name}.1` });
      assert.deepEqual(items, []);
      await refused("not_found", master.state.stitch(name));
    },
  },
  verdictIsTrue: {
    title: "a job ends as its node has said, and only then",
    check: async ({ master, other, name }) => {
      const good = await jobOf(master, createOf(name), { waitMs: WAIT_MS });
      assert.equal(good.status, "succeeded");
      await until("it is published", async () => (await master.state.stitch(name)).state === "running");
      const spec = { ...SLEEPS, command: ["false"], restart: { policy: "never" } };
      const bad = await jobOf(master, createOf(`${name}-bad`, { spec }));
      assert.equal((await other.commands.job(bad.id, WAIT_MS)).status, "failed");
      assert.equal((await master.commands.job(bad.id, WAIT_MS)).status, "failed");
    },
  },
  upkeepEndsJobs: {
    title: "a job that nobody reads is ended by upkeep alone",
    check: async ({ master, cluster, name }) => {
      const { id } = await jobOf(master, createOf(name));
      const { redis, keys } = cluster.open;
      const isClosed = async () => {
        // As if it had been due for long.
        await redis.zadd(keys.openJobs, "XX", 0, id);
        await master.upkeep.sweep();
        return redis.hget(keys.job(id), "closed");
      };
      await until("it is closed", isClosed, LIMIT_MS);
    },
  },
  acceptedIsDelivered: {
    title: "a message that was accepted reaches its stitch; one for nobody is refused",
    check: async ({ master, cluster, name }) => {
      await createMail(cluster, `contract.${name}.1`, { [`n2:${name}`]: "module" });
      const request = { to: { stitch: name }, channel: "", data: "hello", expect: "none", timeoutMs: 5000 } as const;
      const { sent } = await master.routing.send(request, null, "");
      assert.deepEqual(
        sent.deliveries.map(({ stitch, status }) => [stitch, status]),
        [[`n2:${name}`, "accepted"]],
      );
      await until("it has come", () => takenBy(cluster, `n2:${name}`).some(({ data }) => data === "hello"), LIMIT_MS);
      await refused("no_recipient", master.routing.send({ ...request, to: { stitch: "nobody" } }, null, ""));
    },
  },
  bareIdMeansOne: {
    title: "a bare id means the one stitch that has it; of two, none",
    check: async ({ master, name }) => {
      for (const node of ["n1", "n2"]) {
        await jobOf(master, createOf(name, { node, start: false }), { waitMs: WAIT_MS });
        if (node === "n1") assert.equal((await master.state.stitch(name)).fullId, `n1:${name}`);
      }
      assert.deepEqual((await master.routing.locate(name)).sort(), [`n1:${name}`, `n2:${name}`]);
      await refused("ambiguous_stitch", master.state.stitch(name));
      await refused("ambiguous_stitch", submit(master, { command: "stitch.stop", target: name }));
    },
  },
  livenessIsTheLease: {
    title: "a node is alive for as long as its lease, and is forgotten only after that",
    check: async ({ master, cluster, name }) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, name, 1500);
      assert.equal((await master.state.node(name)).liveness, "alive");
      await refused("node_alive", master.commands.forgetNode(name));
      await until("it is dead", async () => (await master.state.node(name)).liveness === "dead");
      assert.deepEqual(
        (await master.state.nodes(FIRST, { liveness: "dead" })).items.map(({ id }) => id).filter((id) => id === name),
        [name],
      );
      await master.commands.forgetNode(name);
      await refused("not_found", master.state.node(name));
    },
  },
  cancelEndsWhatWaits: {
    title: "a cancel ends what nobody has taken up, and nobody takes it up after that",
    check: async ({ master, cluster, name }) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, name);
      const { id } = await jobOf(master, createOf(name, { node: name }));
      assert.equal((await master.commands.cancel(id)).status, "cancelled");
      await refused("job_finished", master.commands.cancel(id));
      assert.equal((await master.commands.job(id, 0)).status, "cancelled");
    },
  },
} satisfies Record<string, Clause>;
