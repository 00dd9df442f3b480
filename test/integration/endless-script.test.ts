// What docs/security.md says to do about a script that does not end. The test reads the commands from there and runs them.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { until } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { SECURITY_DOC, usersOf } from "../support/redis-users.ts";

const CLUSTER = "prod";
/** The commands of the docs: the first block ends a script that has written nothing, the second any other script. */
const [ENDING = "", RESTARTING = ""] = [
  ...SECURITY_DOC.slice(SECURITY_DOC.indexOf("### A script that does not end")).matchAll(/```sh\n(.*?)```/gs),
].map(([, lines = ""]) => lines);

/** A Redis with the users of the docs in a file, run as an operator would run it. */
async function withUsersFile(work: (redis: Operated) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-users-"));
  const redis = new Operated(dir);
  try {
    await redis.start();
    await work(redis);
  } finally {
    await redis.end();
    rmSync(dir, { recursive: true, force: true });
  }
}

class Operated {
  readonly #dir: string;
  readonly #users: string;
  #stop: () => Promise<void> = () => Promise.resolve();
  #port = 0;
  /** The errors of all connections. */
  readonly said: string[] = [];
  pid = 0;

  constructor(dir: string) {
    this.#dir = dir;
    this.#users = join(dir, "users.acl");
    const users = usersOf(CLUSTER, ["m1"]);
    // `startLocalRedis` asks without a user name whether Redis answers.
    users.set("default", ["on", "nopass", "resetkeys", "resetchannels", "-@all", "+ping"]);
    writeFileSync(this.#users, [...users].map(([name, rules]) => `user ${name} ${rules.join(" ")}\n`).join(""));
  }

  async start(): Promise<void> {
    const settings = { aclfile: this.#users, "busy-reply-threshold": "100" };
    const redis = await startLocalRedis({ dir: this.#dir, port: this.#port, settings });
    this.#port = Number(new URL(redis.url).port);
    this.#stop = () => {
      redis.kill("SIGKILL");
      return redis.stop();
    };
    this.pid = redis.pid;
  }

  end(): Promise<void> {
    return this.#stop();
  }

  client(user: string): Redis {
    const { port, host } = { port: this.#port, host: "127.0.0.1" };
    const options = { username: user, password: "PASSWORD", retryStrategy: () => null, lazyConnect: true };
    const client = new Redis(port, host, options);
    client.on("error", ({ message }) => this.said.push(message));
    return client;
  }

  /** Runs commands of the docs. @returns what they print. */
  async run(lines: string): Promise<string> {
    const here = lines
      .replaceAll("redis.internal", `127.0.0.1 -p ${this.#port}`)
      .replaceAll("/var/lib/redis/users.acl", this.#users);
    assert.ok(here.includes("-p ") && !here.includes("/etc/"), here);
    const { stdout, stderr } = await promisify(execFile)("sh", ["-c", here], { timeout: 30_000 });
    return stdout + stderr;
  }

  users(): string {
    return readFileSync(this.#users, "utf8");
  }
}

/** Runs a script that does not end, as the node's user. */
async function begin(redis: Operated, script: string): Promise<{ ended: Promise<string> }> {
  const thief = redis.client("node-m1");
  await thief.connect();
  const ended = thief
    .eval(script, 1, `cs:${CLUSTER}:{node:m1}:status`)
    .then(
      () => "an answer",
      ({ message }: Error) => message,
    )
    .finally(() => thief.disconnect());
  const admin = redis.client("admin");
  await until("Redis is busy", async () =>
    admin.ping().then(
      () => false,
      ({ message }: Error) => message.startsWith("BUSY"),
    ),
  );
  admin.disconnect();
  return { ended };
}

async function nodeIsOut(redis: Operated): Promise<void> {
  const thief = redis.client("node-m1");
  await assert.rejects(thief.connect());
  assert.match(redis.said.at(-1) ?? "", /WRONGPASS/);
  assert.doesNotMatch(redis.users(), /node-m1/, "it does not come back with a restart");
}

async function apiIsWell(redis: Operated): Promise<void> {
  const api = redis.client("api");
  await api.connect();
  assert.equal(await api.get(`cs:${CLUSTER}:accepted`), "1", "what was accepted is there");
  assert.equal(await api.get(`cs:${CLUSTER}:{node:m1}:status`), null, "what the script wrote is not");
  api.disconnect();
}

async function accept(redis: Operated): Promise<void> {
  const api = redis.client("api");
  await api.connect();
  await api.set(`cs:${CLUSTER}:accepted`, "1");
  api.disconnect();
}

test("the commands of the docs end a script that has written nothing, and delete its user", async () => {
  await withUsersFile(async (redis) => {
    await accept(redis);
    const { ended } = await begin(redis, "while true do end");
    assert.equal((await redis.run(ENDING)).trim(), "OK\n1\nOK");
    assert.match(await ended, /killed|closed/i);
    await nodeIsOut(redis);
    await apiIsWell(redis);
  });
});

test("the commands of the docs end a script that has written, together with Redis; nothing accepted is lost", async () => {
  await withUsersFile(async (redis) => {
    await accept(redis);
    await begin(redis, "redis.call('SET', KEYS[1], 'false') while true do end");
    assert.match(await redis.run(ENDING), /UNKILLABLE(.|\n)*BUSY/);
    await redis.run(RESTARTING);
    await until("Redis has ended", () => !isRunning(redis.pid));
    await redis.end();
    await redis.start();
    await nodeIsOut(redis);
    await apiIsWell(redis);
  });
});
