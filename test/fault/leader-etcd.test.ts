import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { freePort } from "../../src/cli/processes/local-redis.ts";
import { pause } from "../../src/bounded-wait.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import { EtcdLease } from "../../src/etcd/etcd-lease.ts";
import { Leader } from "../../src/master/leader/leader.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { electionsUnderLoad } from "../support/elections.ts";
import { type LocalEtcd, WITH_ETCD, withEtcd } from "../support/etcd.ts";
import { given, joinedMasters, leaderBeside, leaderOf, post, startMaster } from "../support/leaders.ts";
import { openSilentProxy } from "../support/silent-proxy.ts";

const LEASE_MS = 2000;
const [{ url: redisUrl } = { url: "" }] = REDISES;
const ping = { command: "node.ping", target: "n1" };
/** Where etcd's own leader dies, leases begin anew at its successor. */
const WITHOUT_LEADER_MS = 30_000;

async function ledByEtcd(work: (cluster: TestCluster, etcd: LocalEtcd) => Promise<void>): Promise<void> {
  await withEtcd(async (etcd) => {
    const env = {
      STITCH_MASTER: "leader",
      STITCH_LEADER_LEASE: etcd.place,
      STITCH_LEADER_LEASE_MS: String(LEASE_MS),
    };
    await withCluster(redisUrl, env, (cluster) => work(cluster, etcd));
  });
}

describe("a leader whose lease lives in etcd", { ...WITH_ETCD, concurrency: 2 }, () => {
  it("is replaced when it is killed; ten elections under load lose no accepted job, and run none twice", async () => {
    await ledByEtcd((cluster) => electionsUnderLoad(cluster, 10));
  });

  it("goes on when one member of etcd dies, decides nothing without a majority, and decides again when it is back", async () => {
    await ledByEtcd(async (cluster, etcd) => {
      await cluster.node("n1");
      const masters = await joinedMasters(cluster, ["m1", "m2"]);
      const { url } = await cluster.api();
      const first = await leaderBeside(cluster);
      const state = await cluster.master.state.cluster();
      assert.deepEqual([state.lease, first.n > 1], [etcd.place, true], "the order is a revision of etcd");

      const leading = (await etcd.leader()) ?? assert.fail();
      const [follower = 0] = [0, 1, 2].filter((member) => member !== leading);
      etcd.kill(follower, "SIGKILL");
      for (let count = 0; count < 3; count++) {
        assert.equal((await given(url, ping, `one-${count}`))["status"], "succeeded");
        await pause(LEASE_MS / 2);
      }
      assert.equal((await leaderOf(cluster))?.id, first.id);

      // The job is accepted before etcd is lost; its node is away.
      await cluster.node("n2").then((node) => node.kill("SIGTERM"));
      const waiting = await given(url, { ...ping, target: "n2", waitForNode: true }, "waiting", 0);
      etcd.kill(leading, "SIGKILL");
      await until("nobody decides", async () => (await post(url, "/v1/commands", ping)).body["code"] === "no_leader");
      assert.equal((await cluster.master.state.node("n1")).liveness, "alive");
      for (const { child, output } of masters.values()) assert.equal(child.exitCode, null, `it tries again: ${output}`);
      etcd.back(follower);
      etcd.back(leading);
      await etcd.ready();
      assert.equal((await given(url, ping, "back"))["status"], "succeeded");
      await cluster.node("n2");
      assert.equal((await cluster.master.commands.job(String(waiting["id"]), 30_000)).status, "succeeded");
      const last = (await leaderOf(cluster)) ?? assert.fail();
      assert.ok(last.epoch === first.epoch && last.n >= first.n);
    });
  });

  it("is replaced when etcd's own leader dies with it", async () => {
    await ledByEtcd(async (cluster, etcd) => {
      await cluster.node("n1");
      const masters = await joinedMasters(cluster, ["m1", "m2"]);
      const { url } = await cluster.api();
      const first = await leaderBeside(cluster);
      etcd.kill((await etcd.leader()) ?? assert.fail(), "SIGKILL");
      masters.get(first.id)?.child.kill("SIGKILL");
      const next = await leaderBeside(cluster, [first.id], WITHOUT_LEADER_MS);
      assert.ok(next.epoch === first.epoch && next.n > first.n, "the order goes up");
      assert.equal((await given(url, ping, "ping"))["status"], "succeeded");
    });
  });

  it("has a higher order when etcd was built anew, although etcd's revisions begin at one again", async () => {
    await ledByEtcd(async (cluster, etcd) => {
      await cluster.node("n1");
      startMaster(cluster, "m1");
      const { url } = await cluster.api();
      const first = await leaderBeside(cluster);
      await etcd.anew();
      await until("it is elected again", async () => ((await leaderOf(cluster))?.epoch ?? 0) > first.epoch);
      assert.equal((await given(url, ping, "ping"))["status"], "succeeded");
    });
  });

  it("stops deciding when it is cut off from etcd alone, before another one can be elected", async () => {
    await ledByEtcd(async (cluster, etcd) => {
      const proxies = await Promise.all(etcd.hosts.map((host) => openSilentProxy(`redis://${host}`)));
      try {
        const { redis, keys } = cluster.open;
        const chosen: ChosenMaster = { mode: "leader", preferred: null, lease: etcd.place };
        const leaderAt = (id: string, hosts: readonly string[]) =>
          new Leader({
            id,
            leaseMs: LEASE_MS,
            lease: new EtcdLease({ redis, keys, chosen, leaseMs: LEASE_MS, place: `etcd+http://${hosts.join(",")}` }),
            steadyNowMs: () => performance.now(),
            random: Math.random,
            randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
            onElected: () => undefined,
            onLost: () => undefined,
          });
        const cut = leaderAt(
          "cut",
          proxies.map(({ url }) => url.replace("redis://", "")),
        );
        const other = leaderAt("other", etcd.hosts);
        await cut.takePart();
        assert.notEqual(cut.current(), null);
        for (const proxy of proxies) proxy.fallSilent();
        const won = await until("another one is elected", async () => {
          await other.takePart();
          // The one that is cut off goes on trying.
          await cut.takePart().catch(() => undefined);
          assert.ok(cut.current() === null || other.current() === null, "never both");
          return other.current();
        });
        for (const proxy of proxies) proxy.speak();
        await cut.takePart();
        assert.equal(cut.current(), null);
        assert.equal(other.current()?.id, won.id);
      } finally {
        await Promise.all(proxies.map((proxy) => proxy.close()));
      }
    });
  });
});

describe("a Master with another place for the lease", () => {
  it("is refused, and both settings are named", async () => {
    await withCluster(redisUrl, { STITCH_MASTER: "leader" }, async (cluster) => {
      startMaster(cluster, "m1");
      await leaderBeside(cluster);
      const other = startMaster(cluster, "m2", { STITCH_LEADER_LEASE: "etcd+http://127.0.0.1:2379" });
      assert.equal(await other.exited, 1);
      assert.match(
        other.output,
        /runs its Masters with STITCH_MASTER=leader.* is set to STITCH_MASTER=leader STITCH_LEADER_LEASE=etcd\+http:\/\/127\.0\.0\.1:2379/,
      );
    });
  });

  it("whose etcd does not answer ends with one line", async () => {
    await withCluster(redisUrl, {}, async (cluster) => {
      const [one, two] = await Promise.all([freePort(), freePort()]);
      const alone = startMaster(cluster, "m1", {
        STITCH_MASTER: "leader",
        STITCH_LEADER_LEASE: `etcd+http://127.0.0.1:${one},127.0.0.1:${two}`,
      });
      assert.equal(await alone.exited, 1);
      assert.match(
        alone.output.trim(),
        /^STITCH_LEADER_LEASE: no member of the etcd answers \(http:\/\/127\.0\.0\.1:\d+: ECONNREFUSED; .*\)$/,
      );
    });
  });
});
