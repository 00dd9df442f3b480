import assert from "node:assert/strict";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { type Config, ConfigError, loadConfig, requireRedis, Secret, settings } from "../../src/config.ts";
import { nodeId } from "../../src/domain/names/ids.ts";

/** The lines of the error message. */
function problems(env: Record<string, string>): string[] {
  try {
    loadConfig(env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message.split("\n");
  }
  return [];
}

test("without settings, every field has its default", () => {
  const { nodeId: id, ...others } = loadConfig({});
  assert.ok(nodeId.safeParse(id).success);
  assert.deepEqual(others, {
    redisUrl: null,
    cluster: "default",
    host: "127.0.0.1",
    port: 8787,
    token: null,
    url: "http://127.0.0.1:8787",
    nodeIdIsSet: false,
    zones: [],
    labels: {},
    capacityCpu: null,
    capacityMemoryBytes: null,
    modules: {},
    stateDir: join(homedir(), ".local", "state", "crossstitch"),
    roles: ["node", "master"],
    master: { mode: "leaderless", preferred: null, lease: null },
    masterModule: null,
    healthFile: null,
    leaderLeaseMs: 6000,
    heartbeatMs: 2000,
    leaseMs: 7500,
    deadAfterMs: 2000,
    leftGraceMs: 300_000,
    jobRetentionMs: 86_400_000,
    logLevel: "info",
  });
});

/** For each setting: its field, a value as text and as read, and wrong values. */
const SETTINGS: Record<keyof typeof settings.shape, [keyof Config, string, unknown, string[]]> = {
  REDIS_URL: [
    "redisUrl",
    "rediss+cluster://a:1,b:2",
    "rediss+cluster://a:1,b:2",
    ["http://a", "redis://", "a:1", "redis+unix://rel", "redis://h:99999"],
  ],
  STITCH_CLUSTER: ["cluster", "blue", "blue", ["Blue", "a.b"]],
  STITCH_HOST: ["host", "0.0.0.0", "0.0.0.0", []],
  STITCH_PORT: ["port", "0", 0, ["65536", "-1", "80.5", "0x50", " 80", "http"]],
  STITCH_TOKEN: ["token", "aZ09._~+/-==", "aZ09._~+/-==", ["a b", "a\nb", "a\n", " a", "é", "a=b", '"a"', "="]],
  STITCH_URL: [
    "url",
    "https://x.example",
    "https://x.example",
    [
      "x.example",
      "ftp://x.example",
      "javascript:1",
      "http://user@x.example",
      "http://:canary@x.example",
      "http://x.example?a=1",
      "http://x.example/#a",
      "http://x.example\n",
      "http:x.example",
      "http://x.example:99999",
    ],
  ],
  STITCH_NODE_ID: ["nodeId", "n1", "n1", ["api", "N1", "n1:a"]],
  STITCH_ZONES: ["zones", " a, b,,", ["a", "b"], []],
  STITCH_LABELS: ["labels", "disk = ssd,url=a=b,x=", { disk: "ssd", url: "a=b", x: "" }, ["disk", "=ssd", "a=b,c"]],
  STITCH_CAPACITY_CPU: ["capacityCpu", "0.5", 0.5, ["-1", "1e3", "half", "0.1234", ".5"]],
  STITCH_CAPACITY_MEMORY_BYTES: ["capacityMemoryBytes", "1024", 1024, ["1k", "-1", "0.5", "9".repeat(16)]],
  STITCH_MODULES: ["modules", "echo=/srv/echo.ts", { echo: "/srv/echo.ts" }, ["echo", "=/srv"]],
  STITCH_STATE_DIR: ["stateDir", "/var/lib/x", "/var/lib/x", []],
  STITCH_ROLES: ["roles", "master", ["master"], ["boss", ",", "node,boss"]],
  STITCH_MASTER: [
    "master",
    "leaderless",
    { mode: "leaderless", preferred: null, lease: null },
    ["leaders", "own", "my-master.js"],
  ],
  STITCH_MASTER_PREFERRED: ["master", "n1", { mode: "preferred", preferred: "n1", lease: null }, ["N1", "n1:a"]],
  STITCH_LEADER_LEASE: [
    "master",
    "etcd+http://a:1,b.example:2379",
    { mode: "leader", preferred: null, lease: "etcd+http://a:1,b.example:2379" },
    ["etcd", "etcd://a:1", "etcd+http://a", "etcd+http://u:p@a:1", "etcd+http://a:1/x", "http://a:1", "redis://a"],
  ],
  STITCH_LEADER_LEASE_MS: ["leaderLeaseMs", "1000", 1000, ["999", "600001", "1s"]],
  STITCH_HEARTBEAT_MS: ["heartbeatMs", "2500", 2500, ["99", "60001", "2s"]],
  STITCH_LEASE_MS: ["leaseMs", "6000", 6000, ["299", "600001", "x"]],
  STITCH_DEAD_AFTER_MS: ["deadAfterMs", "0", 0, ["600001", "-1"]],
  STITCH_LEFT_GRACE_MS: ["leftGraceMs", "0", 0, ["86400001"]],
  STITCH_JOB_RETENTION_MS: ["jobRetentionMs", "1000", 1000, ["999", String(32 * 86_400_000)]],
  STITCH_HEALTH_FILE: ["healthFile", "/run/x/health", "/run/x/health", []],
  STITCH_LOG_LEVEL: ["logLevel", "silent", "silent", ["INFO", "verbose"]],
};

for (const [name, [field, text, value, wrongs]] of Object.entries(SETTINGS)) {
  test(`${name} is read as ${field}; empty counts as not set`, () => {
    const env =
      name === "STITCH_MASTER_PREFERRED"
        ? { STITCH_MASTER: "preferred" }
        : name === "STITCH_LEADER_LEASE"
          ? { STITCH_MASTER: "leader" }
          : {};
    const read = loadConfig({ ...env, [name]: text })[field];
    assert.deepEqual(read instanceof Secret ? read.reveal() : read, value);
    assert.deepEqual(loadConfig({ [name]: "" }), loadConfig({}));
  });
  for (const wrong of wrongs)
    test(`${name}=${wrong} is refused with the setting's name`, () => {
      const lines = problems({ [name]: wrong });
      // A wrong heartbeat may be followed by a line about the lease.
      assert.match(lines[0] ?? "", new RegExp(`^${name}(\\.\\d+)?: .`));
    });
}

test("STITCH_MASTER=preferred needs the id of the preferred Master", () => {
  assert.match(problems({ STITCH_MASTER: "preferred" })[0] ?? "", /^STITCH_MASTER_PREFERRED: needed with/);
  assert.deepEqual(problems({ STITCH_MASTER_PREFERRED: "m1" }), [
    "STITCH_MASTER_PREFERRED: only with STITCH_MASTER=preferred",
  ]);
  const { master } = loadConfig({ STITCH_MASTER: "preferred", STITCH_MASTER_PREFERRED: "m1" });
  assert.deepEqual(master, { mode: "preferred", preferred: "m1", lease: null });
});

test("STITCH_LEADER_LEASE goes with the mode leader, and in etcd a lease lasts whole seconds", () => {
  const place = "etcd+http://127.0.0.1:2379";
  assert.deepEqual(problems({ STITCH_LEADER_LEASE: place }), ["STITCH_LEADER_LEASE: only with STITCH_MASTER=leader"]);
  const leader = { STITCH_MASTER: "leader", STITCH_LEADER_LEASE: place };
  for (const wrong of ["1000", "2500"])
    assert.match(problems({ ...leader, STITCH_LEADER_LEASE_MS: wrong })[0] ?? "", /^STITCH_LEADER_LEASE_MS: .*whole/);
  assert.deepEqual(loadConfig({ STITCH_MASTER: "leader" }).master, { mode: "leader", preferred: null, lease: "redis" });
});

test("STITCH_MASTER takes the path of a module", () => {
  for (const path of ["./my-master.js", "../my-master.js", "/srv/my-master.js"]) {
    const { master, masterModule } = loadConfig({ STITCH_MASTER: path });
    assert.deepEqual([master, masterModule], [{ mode: "own", preferred: null, lease: null }, path]);
  }
});

test("reports all wrong settings at once, including the unknown ones", () => {
  const lines = problems({ STITCH_PORT: "x", STITCH_LOG_LEVEL: "x", STITCH_PROT: "1", PATH: "/bin", stitch_x: "1" });
  const named = lines.map((line) => line.slice(0, line.indexOf(":")));
  assert.deepEqual(named.sort(), ["STITCH_LOG_LEVEL", "STITCH_PORT", "STITCH_PROT"]);
  assert.deepEqual(problems({ STITCH_PROT: "1" }), ["STITCH_PROT: no such setting"]);
});

test("a variable that a node sets for its stitches is no unknown setting", () => {
  const set = { STITCH_ID: "a", STITCH_GROUP: "a.b.c", STITCH_DATA_DIR: "/d", STITCH_SESSION: "s" };
  assert.deepEqual(loadConfig(set), loadConfig({}));
});

test("refuses a lease shorter than three heartbeats", () => {
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 60_000 }), fc.integer({ min: 300, max: 600_000 }), (beat, lease) => {
      const lines = problems({ STITCH_HEARTBEAT_MS: String(beat), STITCH_LEASE_MS: String(lease) });
      assert.equal(lines.length, lease >= 3 * beat ? 0 : 1);
      for (const line of lines) assert.match(line, /^STITCH_LEASE_MS: .*STITCH_HEARTBEAT_MS/);
    }),
  );
  assert.deepEqual(problems({ STITCH_HEARTBEAT_MS: "2000", STITCH_LEASE_MS: "6000" }), []);
  assert.equal(problems({ STITCH_HEARTBEAT_MS: "2000", STITCH_LEASE_MS: "5999" }).length, 1);
});

test("only reveal() shows a secret: text, JSON, inspect and errors do not", () => {
  const url = "redis://:hunter2@h";
  const config = loadConfig({ REDIS_URL: url, STITCH_TOKEN: "hunter2" });
  for (const each of [config, config.token, { deep: [config.redisUrl] }])
    for (const shown of [
      JSON.stringify(each),
      inspect(each, { depth: 9, showHidden: true }),
      inspect(each, { customInspect: false }),
    ])
      assert.doesNotMatch(shown, /hunter2/);
  assert.equal(
    `${String(config.token)} ${JSON.stringify(config.token)} ${inspect(config.token)}`,
    '[secret] "[secret]" [secret]',
  );
  assert.doesNotMatch(problems({ REDIS_URL: "postgres://:hunter2@h", STITCH_TOKEN: "hunter2" }).join(), /hunter2/);
  assert.doesNotMatch(problems({ STITCH_URL: "hunter2", STITCH_NODE_ID: "Hunter2:hunter2" }).join(), /hunter2/i);
  assert.doesNotMatch(problems({ STITCH_URL: "http://:hunter2@h?hunter2" }).join(), /hunter2/);
  const [wrong = "", ...others] = problems({ STITCH_TOKEN: "hunter2\nhunter2" });
  assert.match(wrong, /^STITCH_TOKEN: it has a space or the end of a line in it, .*; try: openssl rand -hex 32$/);
  assert.deepEqual(others, []);
  assert.doesNotMatch(wrong, /hunter2/);
  assert.equal(requireRedis(config), url);
  assert.throws(() => requireRedis(loadConfig({})), /^ConfigError: REDIS_URL: not set/);
});

test("the default state folder follows XDG_STATE_HOME", () => {
  assert.equal(loadConfig({ XDG_STATE_HOME: "/x" }).stateDir, join("/x", "crossstitch"));
});

test("every setting has a description", () => {
  for (const [name, schema] of Object.entries(settings.shape)) assert.ok((schema.description ?? "") !== "", name);
});
