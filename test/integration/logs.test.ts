import assert from "node:assert/strict";
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Cluster } from "ioredis";
import type { LogLineResource } from "../../src/contract/log-line.ts";
import { serverSentEvents } from "../../src/client/sse.ts";
import { MAX_BATCHES } from "../../src/redis/inbox/reply-stream.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

/** Prints what is appended to the file `in` of its data folder. */
const ECHO = ["sh", "-c", "touch in; exec tail -n +1 -f in"];

const dataDir = (cluster: TestCluster, node: string, stitch: string) =>
  join(cluster.dir, `state-${node}`, cluster.name, node, "data", stitch);

async function createEcho(cluster: TestCluster, node = "n1", stitch = "echo"): Promise<(text: string) => void> {
  await cluster.create(node, stitch, ECHO);
  const file = join(dataDir(cluster, node, stitch), "in");
  await until("it listens", () => existsSync(file));
  return (text) => appendFileSync(file, text);
}

type Line = LogLineResource & { readonly id: string | null };

/** A log that is followed over HTTP. */
class Follow {
  readonly lines: Line[] = [];
  /** Kept, because the body is cancelled if its response is garbage collected before the body is read. */
  readonly response: Response;
  readonly #stop: AbortController;
  readonly #events: AsyncGenerator<{ event: string; id: string | null; data: string }>;

  private constructor(response: Response, stop: AbortController) {
    this.response = response;
    this.#stop = stop;
    this.#events = serverSentEvents(response.body ?? assert.fail(), () => undefined);
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<Follow> {
    const stop = new AbortController();
    const response = await checkedFetch(url, {
      headers: { Accept: "text/event-stream", ...headers },
      signal: stop.signal,
    });
    assert.equal(response.status, 200, await (response.ok ? "" : response.text()));
    assert.equal(response.headers.get("Content-Type"), "text/event-stream");
    return new Follow(response, stop);
  }

  /** Reads until a line is `text`; null: to the end. */
  async until(text: string | null): Promise<string[]> {
    const limit = setTimeout(() => this.#stop.abort(new Error(`no line "${text}" in ${this.texts.join("|")}`)), 15_000);
    try {
      for (;;) {
        const { done, value } = await this.#events.next();
        if (done === true) {
          assert.equal(text, null, `it ended after: ${this.texts.join("|")}`);
          return this.texts;
        }
        assert.equal(value.event, "line");
        const line = JSON.parse(value.data) as LogLineResource;
        this.lines.push({ ...line, id: value.id });
        if (line.line === text) return this.texts;
      }
    } finally {
      clearTimeout(limit);
    }
  }

  get texts(): string[] {
    return this.lines.map(({ line }) => line);
  }

  leave(): void {
    this.#stop.abort();
  }
}

/** Keys of replies in Redis, leases included. */
async function replyKeys(cluster: TestCluster): Promise<string[]> {
  const { redis } = cluster.open;
  const nodes = redis instanceof Cluster ? redis.nodes("master") : [redis];
  const found = await Promise.all(nodes.map((node) => node.keys(`cs:${cluster.name}:{reply:*`)));
  return found.flat();
}

const replyStream = async (cluster: TestCluster): Promise<string | undefined> =>
  (await replyKeys(cluster)).find((key) => key.endsWith("}"));

for (const redis of REDISES) {
  describe(`logs of a stitch on a ${redis.name}`, { concurrency: 2 }, () => {
    it("are served as JSON, as bare lines and as a stream, by an API in another process than the node", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1")]);
        await cluster.create("n1", "talks", [
          "sh",
          "-c",
          "echo one; echo 'two\ttabbed'; echo three >&2; exec sleep 600",
        ]);
        const logs = `${url}/v1/stitches/talks/logs`;
        const all = await until("all was written", async () => {
          const response = await checkedFetch(logs);
          assert.equal(response.status, 200);
          assert.equal(response.headers.get("Vary"), "Accept");
          const body = (await response.json()) as { items: LogLineResource[]; nextCursor: null; asOf: string };
          return body.items.length === 3 ? body : null;
        });
        assert.deepEqual(Object.keys(all).sort(), ["asOf", "items", "nextCursor"]);
        assert.equal(all.nextCursor, null);
        assert.ok(Date.parse(all.asOf) > 0);
        const ofSource = (wanted: string) =>
          all.items.filter(({ source }) => source === wanted).map(({ line }) => line);
        assert.deepEqual([ofSource("stdout"), ofSource("stderr")], [["one", "two\ttabbed"], ["three"]]);
        assert.ok(all.items.every(({ at }) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(at)));
        const texts = all.items.map(({ line }) => line);

        const plain = await checkedFetch(`${logs}?tail=2`, { headers: { Accept: "text/plain" } });
        assert.match(plain.headers.get("Content-Type") ?? "", /^text\/plain/);
        assert.equal(
          await plain.text(),
          texts
            .slice(-2)
            .map((line) => `${line}\n`)
            .join(""),
        );
        const none = (await (await checkedFetch(`${url}/v1/stitches/n1:talks/logs?tail=0`)).json()) as {
          items: unknown[];
        };
        assert.deepEqual(none.items, []);

        const follow = await Follow.open(`${logs}?tail=10`);
        assert.deepEqual(await follow.until(texts.at(-1) ?? ""), texts);
        assert.deepEqual(
          follow.lines.map(({ id: _, ...line }) => line),
          all.items,
        );
        follow.leave();

        for (const accept of [
          "*/*",
          "text/html,application/xhtml+xml,*/*;q=0.8",
          "application/json;q=0.9,text/plain;q=0.2",
        ])
          assert.match(
            (await checkedFetch(logs, { headers: { Accept: accept } })).headers.get("Content-Type") ?? "",
            /json/,
          );
        const head = await checkedFetch(logs, { method: "HEAD", headers: { Accept: "text/event-stream" } });
        assert.equal(head.status, 200);
        await until("nobody is left following", async () => (await replyKeys(cluster)).length === 0);
      });
    });

    it("as bare lines do not control a terminal; as JSON they are as they were written", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1")]);
        const lines = ["\u001b[31mred\u001b[0m\tplain", "\u001b]0;title\u0007x", "\u009b2Jy\u007f", "é \u202ez"];
        await cluster.create("n1", "steers", ["printf", "%s\\n", ...lines], { restart: { policy: "never" } });
        const logs = `${url}/v1/stitches/steers/logs?tail=100`;
        const items = await until("all was written", async () => {
          const all = ((await (await checkedFetch(logs)).json()) as { items: LogLineResource[] }).items;
          const said = all.filter(({ source }) => source === "stdout");
          return said.length === lines.length && said;
        });
        assert.deepEqual(
          items.map(({ line }) => line),
          lines,
        );
        const plain = await (await checkedFetch(logs, { headers: { Accept: "text/plain" } })).text();
        assert.ok(plain.includes("red\tplain\n"), JSON.stringify(plain));
        assert.doesNotMatch(plain.replace(/[\n\t]/g, ""), /[\p{Cc}\p{Bidi_Control}]/u);
        assert.match(plain, /^é �z$/m);
      });
    });

    it("are followed line by line as written, and continue after the last line seen, even over a node's restart", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const [{ url }, first] = await Promise.all([cluster.api(), cluster.node("n1")]);
        const print = await createEcho(cluster);
        const logs = `${url}/v1/stitches/n1:echo/logs?tail=100`;
        const follow = await Follow.open(logs);
        for (const line of ["a", "b", "c"]) {
          print(`${line}\n`);
          await follow.until(line);
        }
        assert.deepEqual(follow.texts, ["a", "b", "c"]);
        const seen = follow.lines[1]?.id ?? assert.fail();
        follow.leave();
        print("d\n");
        const again = await Follow.open(logs, { "Last-Event-ID": seen });
        assert.deepEqual(await again.until("d"), ["c", "d"]);
        again.leave();

        await first.kill("SIGKILL");
        await cluster.node("n1");
        const after = await Follow.open(logs, { "Last-Event-ID": again.lines.at(-1)?.id ?? "" });
        // The stitch is started again, and prints its file again.
        assert.deepEqual(await after.until("d"), ["a", "b", "c", "d"]);
        const elsewhere = await Follow.open(`${url}/v1/stitches/n1:echo/logs?tail=1`, { "Last-Event-ID": "n2:1.0" });
        assert.deepEqual(await elsewhere.until("d"), ["d"], "an id of another node's log is not one of this log");
        after.leave();
        elsewhere.leave();
      });
    });

    it("wait for a slow reader: the lines under way are bounded, and none is lost", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const total = 120_000;
        await cluster.create("n1", "flood", [
          "sh",
          "-c",
          `until [ -e go ]; do sleep 0.05; done; seq 1 ${total}; exec sleep 600`,
        ]);
        const stop = new AbortController();
        const follow = await cluster.master.state.followLogs("flood", { tail: 0, afterId: null }, stop.signal);
        appendFileSync(join(dataDir(cluster, "n1", "flood"), "go"), "");
        const reader = follow[Symbol.asyncIterator]();
        const lines: string[] = [];
        const pull = async () => {
          const { done, value } = await reader.next();
          assert.notEqual(done, true, `it ended after ${lines.length} lines`);
          for (const { line } of value ?? []) lines.push(line.line);
        };
        await pull();
        const stream = (await replyStream(cluster)) ?? assert.fail();
        const { redis: client } = cluster.open;
        let most = 0;
        await until("the node has sent what it may", async () => {
          most = Math.max(most, await client.xlen(stream));
          return most >= MAX_BATCHES;
        });
        await until("all of it is in the log", async () => {
          const { items } = await cluster.master.state.logs("flood", 1);
          most = Math.max(most, await client.xlen(stream));
          return items[0]?.line === String(total);
        });
        assert.equal(most, MAX_BATCHES);
        assert.ok((await client.pttl(`${stream}:lease`)) > 0, "it waits, but it is there");
        assert.ok(lines.length < total / 2);
        while (lines.length < total) await pull();
        assert.deepEqual(
          lines,
          Array.from({ length: total }, (_, index) => `${index + 1}`),
        );
        stop.abort();
        await reader.return?.();
        assert.deepEqual(await replyKeys(cluster), []);
      });
    });

    it("end as a stream when the stitch is removed or its node leaves, with a line that says so", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const [{ url }, node] = await Promise.all([cluster.api(), cluster.node("n1")]);
        const [print] = await Promise.all([createEcho(cluster), createEcho(cluster, "n1", "other")]);
        print("a line\n");
        const [removed, left] = await Promise.all([
          Follow.open(`${url}/v1/stitches/echo/logs`),
          Follow.open(`${url}/v1/stitches/other/logs`),
        ]);
        await removed.until("a line");
        assert.equal((await cluster.run({ command: "stitch.remove", target: "echo" })).status, "succeeded");
        assert.equal((await removed.until(null)).at(-1), "the stitch was removed: its log ends here");
        assert.deepEqual([removed.lines.at(-1)?.source, removed.lines.at(-1)?.id], ["system", null]);
        assert.equal((await checkedFetch(`${url}/v1/stitches/echo/logs`)).status, 404);
        node.child.kill("SIGTERM");
        assert.equal((await left.until(null)).at(-1), "the node is leaving: its log ends here");
        await node.exited;
        assert.equal((await checkedFetch(`${url}/v1/nodes/n1`, { method: "DELETE" })).status, 204);
        const { redis: client, keys } = cluster.open;
        assert.equal(await client.exists(keys.nodeInbox("n1")), 0, "its inbox is forgotten with it");
      });
    });

    it("get 504 if the node hangs, is dead or has left; questions to it from that time are dropped", async () => {
      await withCluster(redis.url, FAST, async (cluster) => {
        const [{ url }, node] = await Promise.all([cluster.api(), cluster.node("n1")]);
        await createEcho(cluster);
        const { redis: client, keys } = cluster.open;
        const refused = async (reason: RegExp, accept = "application/json") => {
          const [status, problem] = await until("Redis is not too slow to say so", async () => {
            const response = await checkedFetch(`${url}/v1/stitches/n1:echo/logs`, { headers: { Accept: accept } });
            const body = (await response.json()) as { code: string; detail: string };
            return body.code !== "redis_unavailable" && ([response.status, body] as const);
          });
          assert.deepEqual([status, problem.code], [504, "node_unreachable"]);
          assert.match(problem.detail, reason);
        };
        node.child.kill("SIGSTOP");
        // The node counts as alive within its lease, then as suspect; the API asks it in both cases.
        await Promise.all([refused(/did not answer|is dead/), refused(/did not answer|is dead/, "text/event-stream")]);
        await until("it is dead", async () => (await cluster.master.state.node("n1")).liveness === "dead");
        await Promise.all([refused(/n1 is dead/), refused(/n1 is dead/, "text/event-stream")]);
        node.child.kill("SIGCONT");
        await until("it is back", async () => (await cluster.master.state.node("n1")).liveness === "alive");
        await until("its inbox is empty", async () => (await client.xlen(keys.nodeInbox("n1"))) === 0);
        assert.deepEqual((await cluster.master.state.logs("echo", 1)).items, []);
        await node.kill("SIGTERM");
        await refused(/n1 has left/);
        assert.equal((await checkedFetch(`${url}/v1/stitches/n1:nothing/logs`)).status, 404, "no stitch is no stitch");
      });
    });
  });
}

describe("a reader of a log", () => {
  it("that is gone without closing is noticed: the node stops following, and nothing is left in Redis", async () => {
    await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
      const [{ url, part }] = await Promise.all([cluster.api(), cluster.node("n1")]);
      const print = await createEcho(cluster);
      const follow = await Follow.open(`${url}/v1/stitches/echo/logs`);
      print("first\n");
      await follow.until("first");
      const stream = (await replyStream(cluster)) ?? assert.fail();
      await part.kill("SIGKILL");
      const { redis: client } = cluster.open;
      await until("the lease has ended", async () => (await client.exists(`${stream}:lease`)) === 0);
      // Each batch of a node, even an empty one, renews the stream's time to live; the node sends one every 2 s.
      await until("the node sends no more", async () => (await client.exists(stream)) === 0);
      assert.equal((await cluster.master.state.logs("echo", 1)).items[0]?.line, "first");
    });
  });
});
