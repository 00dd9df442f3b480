// Random traces of the model of leaders (test/unit/domain/leader-model.ts), carried out with the real scripts: each must answer as
// the model says.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Election, type JobElection, StaleLeader } from "../../src/domain/election.ts";
import type { JobRecord, JobState, Task } from "../../src/domain/job/job.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import { askForJob } from "../../src/redis/job/asks.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { loadJob } from "../../src/redis/job/job-record.ts";
import { raiseAttempts, saveJob, takeOverJob } from "../../src/redis/job/decisions.ts";
import { claim } from "../../src/redis/job/outcomes.ts";
import { taskDigest } from "../../src/redis/job/task-digest.ts";
import { electLeader, readElection, renewLease } from "../../src/redis/leader-lease.ts";
import { drawRevision } from "../../src/redis/revision.ts";
import { currentElection } from "../../src/domain/election.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { type TestCluster, withCluster } from "../support/cluster.ts";
import { PING_TASK, pingJob } from "../support/ping-job.ts";
import { type Bounds, FIRST, type State, type Step, steps } from "../unit/domain/leader-model.ts";

const CHOSEN: ChosenMaster = { mode: "leader", preferred: null, lease: "redis" };
const BOUNDS: Bounds = { elections: 6, saves: 3, attempts: 6 };
const NODE = "n1";
const LONG_MS = 600_000;

/** What the model calls p0, p1, …: as many pings. */
const taskOf = (number: number, payload: string): Task => ({
  ...PING_TASK,
  id: `t${number}`,
  wave: number,
  steps: Array.from({ length: Number(payload.slice(1)) + 1 }, () => ({ action: "ping", stitch: null })),
});

/** One trace on a real Redis. */
class Replay {
  readonly #cluster: TestCluster;
  readonly #id: string;
  /** Elections of the model → those of Redis. */
  readonly #elections = new Map<string, Election>();
  readonly #read: (JobState | null)[] = [null, null];
  #job: Map<string, Record<string, string>> = new Map();
  #lease: Record<string, string> = {};

  constructor(cluster: TestCluster, id: string) {
    this.#cluster = cluster;
    this.#id = id;
  }

  get #at() {
    const { redis, keys } = this.#cluster.open;
    return { redis, keys, jobKeys: [keys.job(this.#id), keys.jobOutcomes(this.#id, NODE)] };
  }

  async begin(): Promise<void> {
    const { redis, keys } = this.#at;
    await redis.del(keys.leaderLease, keys.masterMode);
    await redis.hset(keys.leaderLease, "_", "");
    const made = await pingJob(this.#cluster.open, this.#id);
    const orchestration = {
      version: 1,
      chains: [],
      allOrStop: false,
      formerCount: null,
      forceAtMs: null,
      replacement: null,
      ended: null,
    };
    const record: JobRecord = { ...made, tasks: [taskOf(0, "p0")], orchestration };
    await askForJob(redis, keys, this.#id, "ask", LONG_MS);
    assert.equal(await createJob(redis, keys, record, ""), "created");
    this.#job = await this.#savedJob();
    this.#lease = await redis.hgetall(keys.leaderLease);
  }

  async #savedJob(): Promise<Map<string, Record<string, string>>> {
    const { redis, jobKeys } = this.#at;
    return new Map(await Promise.all(jobKeys.map(async (key) => [key, await redis.hgetall(key)] as const)));
  }

  async #restore(key: string, hash: Record<string, string>): Promise<void> {
    await this.#at.redis.del(key);
    if (Object.keys(hash).length > 0) await this.#at.redis.hset(key, hash);
  }

  /** Does to Redis what the model has done from `from` to `to`, and compares. */
  async take(from: State, { action, next: to }: Step): Promise<void> {
    const [what = "", ...words] = action.split(" ");
    const { redis, keys } = this.#at;
    const index = Number(words.at(-1));
    switch (what) {
      case "failover":
        await redis.call("DEBUG", "CHANGE-REPL-ID");
        if (words[0] === "true") await this.#restore(keys.leaderLease, this.#lease);
        if (words[1] === "true") for (const [key, hash] of this.#job) await this.#restore(key, hash);
        return;
      case "job's":
        for (const [key, hash] of this.#job) await this.#restore(key, hash);
        return;
      case "elect":
        return this.#elect(from, to, index);
      case "renew":
        assert.equal(await renewLease({ redis, keys, chosen: CHOSEN }, this.#electionOf(to, index), LONG_MS), true);
        return;
      case "read":
        this.#read[index] = await loadJob(redis, keys, this.#id);
        return;
      case "take":
      case "save":
      case "raise":
        return this.#write(what, to, index);
      default:
    }
  }

  async #elect(from: State, to: State, index: number): Promise<void> {
    const { redis, keys } = this.#at;
    const before = await redis.hgetall(keys.leaderLease);
    // The model's clock decides whether the lease has run out.
    const isRunning = from.lease !== null && from.lease.untilMs > from.nowMs;
    if (from.lease !== null)
      await redis.hset(keys.leaderLease, "until", isRunning ? String(Date.now() + LONG_MS) : "1");
    const id = crypto.randomUUID().replaceAll("-", "");
    const won = await electLeader(
      { redis, keys, chosen: CHOSEN },
      { id, holder: `m${index}`, leaseMs: LONG_MS, above: 0 },
    );
    this.#lease = before;
    const [model, real] = [to.masters[index]?.election, won?.election];
    if (model == null || real == null) assert.fail("elected in the model alone");
    assert.equal(real.n, model.n);
    const epochs = [...this.#elections.values()].map(({ epoch }) => epoch);
    assert.equal(
      epochs.every((epoch) => epoch < real.epoch),
      model.epoch > from.epoch,
      "a new epoch in both, or in none",
    );
    this.#elections.set(model.id, real);
  }

  #electionOf(state: State, index: number): Election {
    return this.#elections.get(state.masters[index]?.election?.id ?? "") ?? assert.fail("no election");
  }

  async #write(what: string, to: State, index: number): Promise<void> {
    const { redis, keys } = this.#at;
    const state = this.#read[index] ?? assert.fail("nothing was read");
    const election = this.#electionOf(to, index);
    const saved = await this.#savedJob();
    const last = state.record.tasks.at(-1) ?? assert.fail();
    const task = { ...last, attempt: state.attempts.get(last.id) ?? 1 };
    const { orchestration } = state.record;
    const reply =
      what === "take"
        ? await takeOverJob(redis, keys, election, state, [task])
        : what === "raise"
          ? await raiseAttempts(redis, keys, state, [task], election)
          : await saveJob(
              redis,
              keys,
              state,
              {
                ...state.record,
                tasks: [...state.record.tasks.slice(0, to.job.task), taskOf(to.job.task, to.job.payload)],
                orchestration: orchestration && { ...orchestration, version: orchestration.version + 1 },
              },
              [],
              election,
            );
    assert.equal(reply, "ok");
    this.#job = saved;
  }

  /** The node claims an entry, and looks at the election: one script on a single Redis. */
  async claim(
    from: State,
    to: State,
    entry: { task: number; attempt: number; payload: string; election: string },
  ): Promise<void> {
    const { redis, keys } = this.#at;
    const task = { ...taskOf(entry.task, entry.payload), attempt: entry.attempt };
    const election = this.#elections.get(entry.election)?.id ?? "";
    const reply = await claim(redis, keys, this.#id, NODE, task, 1, { election, digest: await taskDigest(task) });
    const name = `${entry.task} ${entry.payload}`;
    const isApplied = to.applied.includes(name) && !from.applied.includes(name);
    if (!from.applied.includes(name)) assert.equal(reply === "ok", isApplied, `${reply} for ${JSON.stringify(entry)}`);
  }

  /** Compares what Redis holds with the state of the model, and what Masters may do. */
  async compare(state: State): Promise<void> {
    const { redis, keys } = this.#at;
    const job = (await loadJob(redis, keys, this.#id)) ?? assert.fail("the job is gone");
    const election: JobElection | null = job.election;
    assert.equal(election?.id ?? null, this.#elections.get(state.job.election.id ?? "")?.id ?? null);
    const id = `t${state.job.task}`;
    assert.equal(job.attempts.get(id) ?? 1, state.job.attempt);
    const stale = [...job.outcomes.stale]
      .filter((each) => each.startsWith(`${id}.`))
      .map((each) => Number(each.split(".")[1]));
    assert.deepEqual(new Set(stale), new Set(state.job.stale));
    const current = currentElection(state.lease, state.replicationId);
    assert.equal((await readElection(redis, keys))?.id ?? null, this.#elections.get(current?.id ?? "")?.id ?? null);
    for (const { election: held } of state.masters) {
      if (held === null) continue;
      const right = { ...CHOSEN, election: this.#elections.get(held.id) ?? null };
      const drawing = drawRevision(redis, keys, right);
      if (held.id === current?.id) await drawing;
      else await assert.rejects(drawing, StaleLeader);
      // A Master under another election than the job's cannot save it, whatever it is made from.
      if (held.id === state.job.election.id) continue;
      assert.equal(await saveJob(redis, keys, job, job.record, [], right.election), "changed");
    }
  }
}

describe("the scripts of elections", () => {
  it("do what the model says, along random traces", async () => {
    await withOwnRedis(
      async (redis) => {
        await withCluster(redis.url, {}, async (cluster) => {
          let traces = 0;
          await fc.assert(
            fc.asyncProperty(fc.array(fc.nat(), { minLength: 10, maxLength: 60 }), async (choices) => {
              const replay = new Replay(cluster, String(traces++).padStart(26, "0"));
              await replay.begin();
              let state = FIRST;
              for (const choice of choices) {
                const possible = [...steps(state, BOUNDS, "none")];
                const step = possible[choice % possible.length];
                if (step === undefined) break;
                const { node } = step.next;
                if (!step.action.startsWith("claim")) {
                  await replay.take(state, step);
                  state = step.next;
                  continue;
                }
                // Which entry was delivered: the one that the node has, or the one that it has dropped.
                const from = state;
                const delivered = node?.entry ?? from.queue.find(([id]) => step.action === `claim ${id}`)?.[1];
                state = step.next;
                while (state.node !== null) {
                  const onward = [...steps(state, BOUNDS, "none")].find(
                    ({ action }) => action === "look" || action === "finish",
                  );
                  state = onward?.next ?? assert.fail();
                }
                const entry = delivered ?? assert.fail();
                await replay.claim(from, state, entry);
                // An entry of another task than the record's: it must not be applied, which was compared. The scripts also mark its
                // attempt; the model knows the marks of the current task alone, so it would go on otherwise.
                if (entry.task !== from.job.task) break;
              }
              await replay.compare(state);
            }),
            { numRuns: 150 },
          );
        });
      },
      { "enable-debug-command": "local" },
    );
  });
});
