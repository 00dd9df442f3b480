// The program that makes the users of a Redis, from the rules in infra/users.acl.
import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { findRedisServer, startLocalRedis } from "../../src/cli/processes/local-redis.ts";

const PROGRAM = join(import.meta.dirname, "../../infra/bin/redis-user");
/** m1 is how the id of m10 begins. */
const USERS = ["admin", "api", "master", "node-m1", "node-m10", "node-m2"];

/** A folder for one test. */
function folder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "cs-redis-user-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function redisUser(...args: string[]) {
  const env = { PATH: process.env["PATH"], STITCH_CLUSTER: "blue" };
  const { status, stdout, stderr } = spawnSync(PROGRAM, args, { env, encoding: "utf8" });
  return { status, password: stdout.trim(), stderr };
}

/** A Redis that has read the users from a file which the program has made; and their passwords. */
async function redisWithUsers(t: TestContext) {
  const dir = folder(t);
  const file = join(dir, "users.acl");
  writeFileSync(file, "user default on nopass ~* &* +@all\n");
  const redis = await startLocalRedis({ dir, port: 0, settings: { aclfile: file } });
  t.after(() => redis.stop());
  const passwords = new Map(USERS.map((user) => [user, redisUser(user, file).password]));
  const first = new Redis(redis.url);
  await first.call("ACL", "LOAD");
  first.disconnect();
  const as = (user: string) => {
    const client = new Redis(redis.url.replace("://", `://${user}:${passwords.get(user)}@`), {
      retryStrategy: () => null,
    });
    client.on("error", () => {
      // Each command that is asserted on says what went wrong.
    });
    t.after(() => client.disconnect());
    return client;
  };
  return { file, as, url: redis.url };
}

describe("redis-user", { concurrency: 4 }, () => {
  it("gives each user a password of its own, with which Redis lets it do what the rules say", async (t) => {
    const { as, url } = await redisWithUsers(t);
    for (const user of USERS) assert.equal(await as(user).call("ACL", "WHOAMI"), user);
    const m1 = as("node-m1");
    assert.equal(await m1.set("cs:blue:{node:m1}:x", "1"), "OK");
    for (const key of ["cs:blue:{node:m10}:x", "cs:blue:{node:m2}:x", "cs:other:{node:m1}:x"])
      await assert.rejects(m1.set(key, "1"), /NOPERM/);
    assert.equal(await as("node-m10").set("cs:blue:{node:m10}:x", "1"), "OK");
    await assert.rejects(as("node-m10").set("cs:blue:{node:m1}:x", "1"), /NOPERM/);
    const nobody = new Redis(url, { protocol: 2 });
    t.after(() => nobody.disconnect());
    await assert.rejects(nobody.ping(), /NOAUTH/);
  });

  it("--renew gives users the rules of the release, also those of a file that Redis has written; passwords stay", async (t) => {
    const { as, file } = await redisWithUsers(t);
    const admin = as("admin");
    // A connection of its own each time: ACL LOAD closes those that there are.
    const list = async () => ((await as("admin").call("ACL", "LIST")) as string[]).sort();
    const good = await list();
    for (const user of ["api", "node-m10"]) await admin.call("ACL", "SETUSER", user, "resetkeys", "-@all");
    await admin.call("ACL", "SETUSER", "of-another-program", "on", ">x", "~x:*", "+get");
    await admin.call("ACL", "SAVE");
    assert.notDeepEqual(await list(), good);
    assert.equal(redisUser("--renew", file).status, 0);
    await admin.call("ACL", "LOAD");
    const others = (await list()).filter((line) => !good.includes(line));
    assert.deepEqual(
      others.map((line) => line.split(" ")[1]),
      ["of-another-program"],
    );
    assert.equal((await list()).length, good.length + 1);
    assert.equal(await as("api").call("ACL", "WHOAMI"), "api");
  });

  it("leaves Redis able to load all that it has written, in transactions too", async (t) => {
    const dir = folder(t);
    const file = join(dir, "users.acl");
    const { password } = redisUser("admin", file);
    const settings = [
      "--port",
      "0",
      "--unixsocket",
      join(dir, "socket"),
      "--appendonly",
      "yes",
      "--dir",
      dir,
      "--aclfile",
      file,
    ];
    const withRedis = async (work: (admin: Redis) => Promise<void>) => {
      const server = spawn(findRedisServer() ?? "", settings, { stdio: "ignore" });
      const ended = once(server, "exit");
      const admin = new Redis({ path: join(dir, "socket"), username: "admin", password });
      admin.on("error", () => {
        // Until it listens; the work fails if it never does.
      });
      try {
        await work(admin);
      } finally {
        admin.disconnect();
        server.kill();
        await ended;
      }
    };
    await withRedis(async (admin) => {
      await admin.multi().set("a", "1").set("b", "2").exec();
      await admin.eval("redis.call('SET', 'c', 3) redis.call('SET', 'd', 4)", 0);
    });
    await withRedis(async (admin) => assert.deepEqual(await admin.mget("a", "b", "c", "d"), ["1", "2", "3", "4"]));
  });

  it("at once for several users, loses none", async (t) => {
    const file = join(folder(t), "users.acl");
    const users = Array.from({ length: 9 }, (_, at) => `node-m${at}`);
    const run = promisify(execFile);
    await Promise.all(users.map((user) => run(PROGRAM, [user, file])));
    const named = (readFileSync(file, "utf8").match(/^user \S+/gm) ?? []).map((line) => line.slice(5)).sort();
    assert.deepEqual(named, ["default", ...users]);
  });

  it("--renew takes the last line too where it has no end", (t) => {
    const file = join(folder(t), "users.acl");
    redisUser("api", file);
    writeFileSync(file, readFileSync(file, "utf8").trimEnd());
    assert.equal(redisUser("--renew", file).status, 0);
    assert.match(readFileSync(file, "utf8"), /^user api on #/m);
  });

  it("repeated, gives another password, and one line a user", (t) => {
    const file = join(folder(t), "users.acl");
    const [one, two] = [redisUser("api", file), redisUser("api", file)];
    assert.match(one.password, /^[0-9a-f]{48}$/);
    assert.notEqual(one.password, two.password);
    const text = readFileSync(file, "utf8");
    assert.deepEqual(text.match(/^user \S+/gm), ["user default", "user api"]);
    assert.ok(!text.includes(two.password), "only its hash is written");
  });

  for (const wrong of ["x", "node-", "node-a/b", "node-M1", "node-m1 ", "apis", "", "--renew"])
    it(`refuses "${wrong}", and writes nothing`, (t) => {
      const file = join(folder(t), "none", "users.acl");
      const { status, password, stderr } = redisUser(wrong, file);
      assert.notEqual(status, 0);
      assert.equal(password, "");
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
    });
});
