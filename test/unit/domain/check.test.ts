import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { afterCheck, type CheckState, UNCHECKED } from "../../../src/domain/stitch/check-state.ts";
import { checkText, healthCheck } from "../../../src/domain/stitch/check.ts";
import { worseOf } from "../../../src/domain/stitch/health.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { type Health, HEALTHS } from "../../../src/domain/stitch/stitch.ts";
import { stored } from "../../support/test-spec.ts";

const PROCESS = { adaptor: "process", command: ["node", "worker.js"] } as const;
const HTTP = { http: { port: 8080, path: "/health" } };
const DEFAULTS = { intervalMs: 10_000, timeoutMs: 3000, greenAfter: 1, redAfter: 3, restartWhenRed: false };
const issues = (check: unknown, more: object = {}) =>
  (stitchSpec.safeParse({ ...PROCESS, ...more, check }).error?.issues ?? []).map(
    ({ path, message }) => `${path.join(".")}: ${message}`,
  );

test("a check is http, tcp or exec, with defaults for all the rest", () => {
  for (const probe of [
    HTTP,
    { http: { port: 1, path: "/", expect: 204 } },
    { tcp: { port: 65_535 } },
    { exec: ["true", "-x"] },
  ]) {
    const { check } = { check: undefined, ...stitchSpec.parse({ ...PROCESS, check: probe }) };
    assert.deepEqual(check, { ...probe, ...DEFAULTS });
    assert.deepEqual(healthCheck.parse(check), check, "a checked check stays the same");
  }
});

test("the text and hash of a spec without a check are what they were before there were checks", () => {
  const { text } = stored(stitchSpec.parse(PROCESS));
  const before =
    '{"adaptor":"process","command":["node","worker.js"],"env":{},"protocol":"process-v1","heartbeatMs":10000,' +
    '"onDisconnect":"keep","restart":{"policy":"always","maxRestarts":5,"windowMs":60000,"backoffMs":500,' +
    '"maxBackoffMs":30000},"stopGraceMs":5000,"resources":{"cpu":0,"memoryBytes":0}}';
  assert.equal(text, before);
  assert.deepEqual(stored(stitchSpec.parse(JSON.parse(before))), stored(stitchSpec.parse(PROCESS)));
});

const ONE_OF = 'check: must have exactly one of "http", "tcp" and "exec"';
for (const [check, ...told] of [
  [{}, ONE_OF],
  [{ ...HTTP, tcp: { port: 1 } }, ONE_OF],
  [{ ...HTTP, exec: ["x"] }, ONE_OF],
  [{ https: { port: 1, path: "/" } }, 'check: Unrecognized key: "https"', ONE_OF],
  [{ tcp: { port: 1, path: "/" } }, 'check.tcp: Unrecognized key: "path"'],
  [{ tcp: { port: 0 } }, "check.tcp.port: Too small: expected number to be >=1"],
  [{ tcp: { port: 65_536 } }, "check.tcp.port: Too big: expected number to be <=65535"],
  [{ tcp: { port: 1.5 } }, "check.tcp.port: Invalid input: expected int, received number"],
  [{ http: { port: 1 } }, "check.http.path: Invalid input: expected string, received undefined"],
  [{ ...HTTP, intervalMs: 1000 }, "check.timeoutMs: must not be longer than intervalMs (1000): it is 3000; give both"],
  [{ ...HTTP, intervalMs: 99, timeoutMs: 1 }, "check.intervalMs: Too small: expected number to be >=100"],
  [{ ...HTTP, timeoutMs: 0 }, "check.timeoutMs: Too small: expected number to be >=1"],
  [{ ...HTTP, greenAfter: 0 }, "check.greenAfter: Too small: expected number to be >=1"],
  [{ ...HTTP, redAfter: 101 }, "check.redAfter: Too big: expected number to be <=100"],
  [{ exec: "pg_isready" }, 'check.exec: must be a list of words, such as ["sleep", "60"]'],
  [{ exec: Array.from({ length: 257 }, () => "x") }, "check.exec: at most 256 arguments"],
  [{ exec: ["x", "a\0b"] }, "check.exec.1: must not contain a NUL character"],
  ["http:8080", "check: Invalid input: expected object, received string"],
] as const)
  test(`refuses the check ${JSON.stringify(check).slice(0, 80)} and says why`, () => {
    assert.deepEqual(issues(check), told);
  });

test("a path begins with / and holds nothing that could end the line of a request", () => {
  for (const path of [
    "",
    "health",
    "/a b",
    "/a\r\nX: y",
    "/a\n",
    "/\0",
    "/ä",
    "http://127.0.0.1/",
    `/${"x".repeat(2048)}`,
  ])
    assert.match(issues({ http: { port: 1, path } }).join(), /^check\.http\.path: /, JSON.stringify(path));
  for (const path of ["/", "/health?full=1&x=%20", "//x"]) assert.deepEqual(issues({ http: { port: 1, path } }), []);
});

test("an expected status is a number from 100 to 599", () => {
  for (const expect of [99, 600, 200.5, "200", null])
    assert.match(issues({ http: { port: 1, path: "/", expect } }).join(), /^check\.http\.expect: /);
});

test("a restart when red needs a policy that restarts", () => {
  const check = { ...HTTP, restartWhenRed: true };
  assert.deepEqual(issues(check, { restart: { policy: "never" } }), [
    'check.restartWhenRed: needs a restart policy that restarts: "always" or "on-failure"',
  ]);
  assert.deepEqual(issues(check, { restart: { policy: "on-failure" } }), []);
  assert.deepEqual(issues(HTTP, { restart: { policy: "never" } }), []);
});

test("only a process has a check", () => {
  assert.match(JSON.stringify(stitchSpec.safeParse({ adaptor: "module", module: "m", check: HTTP }).error), /check/);
});

test("a check is named as in a message, and a long command is cut", () => {
  const named = (check: unknown) => checkText(healthCheck.parse(check));
  assert.equal(named(HTTP), "http 127.0.0.1:8080/health");
  assert.equal(named({ tcp: { port: 5432 } }), "tcp 127.0.0.1:5432");
  assert.equal(named({ exec: ["pg_isready", "-q"] }), "exec pg_isready -q");
  assert.equal(named({ exec: ["x".repeat(8000)] }), `exec ${"x".repeat(100)}…`);
});

const after = (outcomes: readonly boolean[], greenAfter: number, redAfter: number): CheckState[] => {
  const states: CheckState[] = [];
  for (const each of outcomes) states.push(afterCheck(states.at(-1) ?? UNCHECKED, each, { greenAfter, redAfter }));
  return states;
};
const shown = (text: string, greenAfter: number, redAfter: number) =>
  after(
    text.split("").map((each) => each === "+"),
    greenAfter,
    redAfter,
  )
    .map(({ health }) => health[0])
    .join("");

test("checks turn a program green, yellow, red, and back over yellow", () => {
  assert.equal(shown("--+-+---+", 1, 3), "mmgygyyrg");
  assert.equal(shown("+-++---+++", 2, 3), "mmmgyyrygg");
  assert.equal(shown("+-", 1, 1), "gr");
  assert.equal(shown("-----", 1, 1), "mmmmm");
});

const many = fc.array(fc.boolean(), { maxLength: 60 });
const limit = fc.integer({ min: 1, max: 5 });
const endsWith = (outcomes: readonly boolean[], count: number, value: boolean) =>
  outcomes.length >= count && outcomes.slice(-count).every((each) => each === value);
const wasGreen = (outcomes: readonly boolean[], greenAfter: number) =>
  outcomes.some((_, index) => endsWith(outcomes.slice(0, index + 1), greenAfter, true));

test("the health follows from all checks of the run as described, whatever they were", () => {
  fc.assert(
    fc.property(many, limit, limit, (outcomes, greenAfter, redAfter) => {
      for (const [index, { health }] of after(outcomes, greenAfter, redAfter).entries()) {
        const so = outcomes.slice(0, index + 1);
        const expected: Health = !wasGreen(so, greenAfter)
          ? "missing"
          : endsWith(so, greenAfter, true)
            ? "green"
            : endsWith(so, redAfter, false)
              ? "red"
              : "yellow";
        assert.equal(health, expected);
      }
    }),
  );
});

test("what was once green is never missing again, and turns from red to green only by successes", () => {
  fc.assert(
    fc.property(many, limit, limit, (outcomes, greenAfter, redAfter) => {
      const states = after(outcomes, greenAfter, redAfter);
      for (const [index, { health }] of states.entries()) {
        const before = states[index - 1]?.health ?? "missing";
        if (before !== "missing") assert.notEqual(health, "missing");
        if (health === "green" && before !== "green") assert.equal(outcomes[index], true);
        if (health === "red" && before !== "red") assert.equal(outcomes[index], false);
      }
    }),
  );
});

test("the worse of two healths is the same in either order, and one of them", () => {
  const health = fc.constantFrom(...HEALTHS);
  fc.assert(
    fc.property(health, health, (one, other) => {
      assert.equal(worseOf(one, other), worseOf(other, one));
      assert.ok([one, other].includes(worseOf(one, other)));
    }),
  );
  assert.deepEqual(
    (["green", "yellow", "red", "missing"] as const).map((each) => worseOf("yellow", each)),
    ["yellow", "yellow", "red", "missing"],
  );
});
