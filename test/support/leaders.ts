import assert from "node:assert/strict";
import { checkedFetch } from "./checked-fetch.ts";
import { type Part, type TestCluster, until } from "./cluster.ts";

/** Long enough that a busy machine does not lose it. */
export const LEASE_MS = 3000;
export const LED = { STITCH_MASTER: "leader", STITCH_LEADER_LEASE_MS: String(LEASE_MS) };

/** Starts a Master that takes part in the election; does not wait for anything. */
export const startMaster = (cluster: TestCluster, id: string, more: Record<string, string> = {}): Part =>
  cluster.part(["master"], { STITCH_NODE_ID: id, ...more });

/** Starts Masters, and waits until each has joined: until then, one that does not reach the lease's store ends. */
export async function joinedMasters(cluster: TestCluster, ids: readonly string[]): Promise<Map<string, Part>> {
  const masters = new Map(ids.map((id) => [id, startMaster(cluster, id)]));
  const haveJoined = () => [...masters.values()].every(({ output }) => output.includes("tends the cluster"));
  await until("every Master has joined", haveJoined);
  return masters;
}

/** The leader and its election. */
export async function leaderOf(cluster: TestCluster): Promise<{ id: string; epoch: number; n: number } | null> {
  const { leader, election } = await cluster.master.state.cluster();
  return leader === null || election === null ? null : { id: leader, epoch: election.epoch, n: election.n };
}

/** Resolves with the leader that is none of these. */
export const leaderBeside = (cluster: TestCluster, others: readonly string[] = [], limitMs?: number) =>
  until(
    `another than ${others.join()} leads`,
    async () => {
      const leader = await leaderOf(cluster);
      return leader !== null && !others.includes(leader.id) ? leader : null;
    },
    limitMs,
  );

type Answer = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> };

/** Posts JSON to an API; nothing if `body` is null. */
export async function post(url: string, path: string, body: object | null, key?: string): Promise<Answer> {
  const response = await checkedFetch(`${url}${path}`, {
    method: "POST",
    headers: {
      ...(body === null ? {} : { "content-type": "application/json" }),
      ...(key === undefined ? {} : { "Idempotency-Key": key }),
    },
    ...(body === null ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, headers: response.headers, body: (await response.json()) as Answer["body"] };
}

/** Gives a command until there is a leader that takes it. */
export const given = (url: string, body: object, key: string, waitMs = 20_000) =>
  until("the command is taken", async () => {
    const answer = await post(url, `/v1/commands?waitMs=${waitMs}`, body, key);
    if (answer.body["code"] === "no_leader" || answer.body["code"] === "redis_unavailable") return null;
    assert.ok(answer.status < 300, JSON.stringify(answer.body));
    return answer.body;
  });
