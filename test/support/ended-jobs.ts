import assert from "node:assert/strict";
import { type TestCluster, until } from "./cluster.ts";

/** Waits until other processes have ended a job and removed it from the index. Reading the job here would end it. */
export const endedByOthers = ({ open: { redis, keys } }: TestCluster, id: string) =>
  until(
    "it has ended",
    async () => (await redis.hexists(keys.job(id), "closed")) === 1 && (await redis.zscore(keys.openJobs, id)) === null,
    30_000,
  );

export const timesEnded = async ({ master }: TestCluster): Promise<number> =>
  (await master.state.events(null, 100)).items.filter(({ type }) => type === "job.ended").length;

/** Waits for the event of a job's end, which is sent beside the removal from the index, and fails if there are two. */
export async function endedOnce(cluster: TestCluster): Promise<void> {
  await until("its end is told", async () => (await timesEnded(cluster)) > 0);
  assert.equal(await timesEnded(cluster), 1);
}
