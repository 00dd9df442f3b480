import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";

const PROCESS = { adaptor: "process", command: ["node", "worker.js"] } as const;
const MODULE = { adaptor: "module", module: "echo" } as const;
const SHARED = {
  heartbeatMs: 10_000,
  onDisconnect: "keep",
  restart: { policy: "always", maxRestarts: 5, windowMs: 60_000, backoffMs: 500, maxBackoffMs: 30_000 },
  stopGraceMs: 5000,
  resources: { cpu: 0, memoryBytes: 0 },
};
const issues = (spec: unknown) => stitchSpec.safeParse(spec).error?.issues ?? [];
const paths = (spec: unknown) => issues(spec).map((issue) => issue.path.join("."));
const withEnv = (env: Record<string, string>) => ({ ...PROCESS, env });

test("fills in the defaults", () => {
  assert.deepEqual(stitchSpec.parse(PROCESS), { ...PROCESS, env: {}, protocol: "process-v1", ...SHARED });
  assert.deepEqual(stitchSpec.parse(MODULE), { ...MODULE, ...SHARED });
});

test("a checked spec stays the same when it is checked again", () => {
  const full = stitchSpec.parse({
    ...PROCESS,
    cwd: "/srv",
    env: { A: "1" },
    reschedule: false,
    resources: { cpu: 0.5 },
  });
  assert.deepEqual(stitchSpec.parse(full), full);
  assert.deepEqual([full.reschedule, full.resources], [false, { cpu: 0.5, memoryBytes: 0 }]);
});

const LOADERS = "NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS LD_PRELOAD LD_LIBRARY_PATH LD_AUDIT DYLD_INSERT_LIBRARIES";
const OTHERS = "BASH_ENV ENV IFS PYTHONSTARTUP PYTHONPATH PERL5OPT PERL5LIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS";
const OWN = "_JAVA_OPTIONS GCONV_PATH STITCH_TOKEN STITCH_ID STITCH_";
for (const name of [LOADERS, OTHERS, OWN].flatMap((names) => names.split(" "))) {
  test(`refuses the variable ${name}`, () => {
    const found = issues(withEnv({ OK: "1", [name]: "x" }));
    assert.deepEqual(
      found.map((issue) => issue.path.join(".")),
      [`env.${name}`],
    );
    assert.match(JSON.stringify(found), /may not be set/);
  });
}

test("refuses every variable of the dynamic linker and of the node", () => {
  const name = fc.tuple(fc.constantFrom("LD_", "DYLD_", "STITCH_"), fc.stringMatching(/^[A-Z_]{0,20}$/));
  fc.assert(fc.property(name, (parts) => paths(withEnv({ [parts.join("")]: "x" })).length === 1));
});

test("accepts variables whose names only look alike", () => {
  const env = { MY_NODE_OPTIONS: "1", NODE_ENV: "2", OLD_PATH: "3", LD: "4", ENVIRONMENT: "5", _: "6", PATH: "7" };
  assert.deepEqual(stitchSpec.parse(withEnv(env)), { ...stitchSpec.parse(PROCESS), env });
});

test("a variable has a name that any shell could set, and a value without NUL", () => {
  for (const name of ["", "1A", "A-B", "A B", "A=B", "Ä", "A\n", "A".repeat(129)])
    assert.deepEqual(paths(withEnv({ [name]: "x" })), [`env.${name}`]);
  assert.deepEqual(paths(withEnv({ A: "x\0y" })), ["env.A"]);
  assert.deepEqual(paths(withEnv({ A: "x".repeat(8193) })), ["env.A"]);
});

test("accepts at most 128 variables and 256 arguments", () => {
  const vars = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`V${i}`, ""]));
  assert.deepEqual([paths(withEnv(vars(128))), paths(withEnv(vars(129)))], [[], ["env"]]);
  const args = (n: number) => ({ ...PROCESS, command: Array.from({ length: n }, () => "x") });
  assert.deepEqual([paths(args(256)), paths(args(257))], [[], ["command"]]);
});

for (const [path, over] of [
  ["command.0", { command: [""] }],
  ["command", { command: "node worker.js" }],
  ["command.1", { command: ["node", "a\0b"] }],
  ["cwd", { cwd: "srv/app" }],
  ["protocol", { protocol: "process-v2" }],
  ["onDisconnect", { onDisconnect: "die" }],
  ["heartbeatMs", { heartbeatMs: 99 }],
  ["stopGraceMs", { stopGraceMs: 600_001 }],
  ["restart.policy", { restart: { policy: "sometimes" } }],
  ["restart.maxRestarts", { restart: { maxRestarts: -1 } }],
  ["restart.backoffMs", { restart: { backoffMs: 9 } }],
  ["restart", { restart: { colour: 1 } }],
  ["resources.cpu", { resources: { cpu: -0.1 } }],
  ["resources.memoryBytes", { resources: { memoryBytes: 0.5 } }],
  ["resources", { resources: { gpu: 1 } }],
  ["", { module: "echo" }],
  ["adaptor", { adaptor: "docker" }],
] as const) {
  test(`a process refuses ${JSON.stringify(over)} and names the field`, () => {
    assert.deepEqual(paths({ ...PROCESS, ...over }), [path]);
  });
}

test("refuses a command without a program", () => {
  assert.deepEqual([...new Set(paths({ ...PROCESS, command: [] }).map((path) => path.split(".")[0]))], ["command"]);
});

test("a module is a name and never a path, and takes neither a command nor an environment", () => {
  for (const module of ["", "./echo", "/srv/echo", "a.b", "node:fs", "a b", "m".repeat(64)])
    assert.deepEqual(paths({ ...MODULE, module }), ["module"]);
  assert.deepEqual(paths({ ...MODULE, command: ["x"] }), [""]);
  assert.deepEqual(paths({ ...MODULE, env: {} }), [""]);
});
