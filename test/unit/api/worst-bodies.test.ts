// One request must not stop the API: the worst body of every schema costs little work, and gets a small answer. These tests
// count the work; they do not measure time.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createApp } from "../../../src/api/app.ts";
import { problemAnswer } from "../../../src/api/problem.ts";
import { envelope } from "../../../src/domain/commands/body.ts";
import { COMMANDS } from "../../../src/domain/commands/command.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import { MAX_DATA_BYTES } from "../../../src/domain/message.ts";
import type { ProblemResource } from "../../../src/contract/problem.ts";
import type { Master } from "../../../src/master/ports.ts";
import { BODIES, spoilt } from "../../support/worst-bodies.ts";

const MAX_ANSWER = 64 * 1024;
/** Twice the maximum length of any list. */
const MAX_VISITED = 512;
const MANY = 2_000_000;

const failures: unknown[] = [];
const master = {
  commands: {
    submit: () => Promise.reject(new RequestError("not_found", "there is none")),
    rollback: () => Promise.reject(new RequestError("not_found", "there is none")),
  },
  routing: { send: () => Promise.resolve({ sent: { messageId: "m", deliveries: [] }, replayed: false }) },
} as unknown as Master;
const app = createApp({
  open: () => ({
    master,
    followEvents: () => Promise.reject(new Error("not asked")),
    ping: () => Promise.resolve(),
  }),
  limits: null,
  access: { kind: "loopback" },
  nowMs: () => 0,
  onError: (error) => failures.push(error),
  shutdown: new AbortController().signal,
});

async function post(path: string, body: string): Promise<{ status: number; problem: ProblemResource }> {
  const headers = { "content-type": "application/json" };
  const response = await app.request(`http://localhost${path}`, { method: "POST", headers, body });
  const text = await response.text();
  assert.ok(Buffer.byteLength(text) < MAX_ANSWER, `${text.length} characters in answer to ${body.slice(0, 200)}`);
  const problem = JSON.parse(text) as ProblemResource;
  assert.ok((problem.errors?.length ?? 0) <= 20);
  assert.deepEqual(failures, []);
  return { status: response.status, problem };
}

const list = (length: number, element: unknown) => Array.from({ length }, () => element);
const record = (length: number, nameLength: number) =>
  Object.fromEntries(list(length, 0).map((_, index) => [`${index}`.padEnd(nameLength, "\n"), 1]));
const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);
/** For each kind of value, as much as a command's limits let through to its schema. */
const BULKS = {
  "a list of numbers": list(3900, 1),
  "a list of lists": list(1900, []),
  "a record": record(900, 100),
  "a text": "x".repeat(200_000),
  "a text of control characters": "\u0001".repeat(40_000),
  "one name that is long": { ["\n".repeat(100_000)]: 1 },
  "deep lists": nested(90),
};

/** The fields that every command has. Only the tests of the first command spoil them. */
const ENVELOPE: ReadonlySet<string> = new Set(Object.keys(envelope));

for (const [index, { name, path, schema }] of BODIES.entries())
  describe(`the worst bodies of ${name}`, () => {
    const isOfAll = (body: unknown) =>
      typeof body === "object" && body !== null && [...ENVELOPE].some((field) => Object.hasOwn(body, field));
    const spoiltHere = (bulk: unknown) => spoilt(schema, bulk).filter((body) => index === 0 || !isOfAll(body));

    it("are refused with a small answer", async () => {
      for (const bulk of Object.values(BULKS))
        for (const body of spoiltHere(bulk)) await post(path, JSON.stringify(body));
    });

    it(`cost fewer than ${MAX_VISITED} reads of their elements`, () => {
      let visited = 0;
      let listed = 0;
      const counted = new Proxy(list(MANY, 1), {
        get(target, key, receiver): unknown {
          if (typeof key === "string" && /^\d+$/.test(key)) visited += 1;
          return Reflect.get(target, key, receiver);
        },
      });
      const names = new Proxy(record(10_000, 5), {
        get(target, key, receiver): unknown {
          visited += 1;
          return Reflect.get(target, key, receiver);
        },
        ownKeys(target) {
          listed += 1;
          return Reflect.ownKeys(target);
        },
      });
      for (const bulk of [counted, names])
        for (const body of spoiltHere(bulk)) {
          visited = 0;
          listed = 0;
          schema.safeParse(body);
          assert.ok(visited < MAX_VISITED, `${visited} were looked at`);
          assert.ok(listed < 2, `its names were gone through ${listed} times`);
        }
    });
  });

describe("a request body beyond its limits", () => {
  const create = (command: string) =>
    `{"command":"stitch.create","target":"a.b.1","spec":{"adaptor":"process","command":${command}}}`;

  it("a command of 4 MB is too large, and so is a smaller one with too many elements", async () => {
    for (const count of [MANY, 100_000]) {
      const { problem } = await post("/v1/commands", create(`[${"1,".repeat(count)}1]`));
      assert.equal(problem.code, "too_large");
    }
  });

  it("a message with more data than the limit is too large; one at the limit is sent", async () => {
    const message = (data: string) => `{"to":{"stitch":"a"},"data":${data}}`;
    for (const data of [`[${"1,".repeat(MANY)}1]`, `{${'"a":1,'.repeat(600_000)}"a":1}`])
      assert.equal((await post("/v1/messages", message(data))).problem.code, "too_large");
    const densest = `[${"[],".repeat(MAX_DATA_BYTES / 3 - 2)}[]]`;
    for (const data of [densest, `[${"1,".repeat(MAX_DATA_BYTES / 2 - 2)}1]`])
      assert.equal((await post("/v1/messages", message(data))).status, 202);
  });

  it("the largest allowed command is accepted", async () => {
    const spec = {
      adaptor: "process",
      command: list(256, "a".repeat(200)),
      env: Object.fromEntries(list(128, 0).map((_, index) => [`V${index}`, "v".repeat(1000)])),
    };
    const zones = list(100, 0).map((_, index) => `z${index}`);
    const placement = { zones, labels: Object.fromEntries(zones.map((zone) => [zone, "v"])) };
    const body = { command: "stitch.create", target: "a.b.1", spec, placement };
    assert.equal(COMMANDS["stitch.create"].schema.safeParse(body).success, true);
    assert.equal((await post("/v1/commands", JSON.stringify(body))).problem.code, "not_found");
  });

  it("a field named __proto__ is refused, however it is escaped", async () => {
    for (const name of ["__proto__", "\\u005f_proto__", "__pr\\u006fto__"])
      for (const body of [`{"data":1,"to":{"${name}":1}}`, `{"to":{"stitch":"a"},"data":[{"${name}":1}]}`])
        assert.equal((await post("/v1/messages", body)).problem.errors?.[0]?.path, "__proto__");
  });
});

it("a problem document about ten thousand nodes is cut and says that it is truncated", () => {
  const refusals = list(10_000, 0).map((_, index) => ({
    node: `node-${index}`,
    code: "cpu",
    message: "x".repeat(100),
  }));
  const stitches = list(1000, { stitch: "s".repeat(60), steps: list(100, "step") });
  for (const facts of [{ refusals }, { plan: { tasks: stitches } }, { candidates: list(20_000, "n1:twin") }]) {
    const { text } = problemAnswer(new RequestError("placement_failed", "none", facts), "id");
    assert.ok(Buffer.byteLength(text) < MAX_ANSWER);
    assert.equal((JSON.parse(text) as { truncated: boolean }).truncated, true);
  }
  const { text } = problemAnswer(
    new RequestError("placement_failed", "none", { refusals: refusals.slice(0, 3) }),
    "id",
  );
  assert.equal((JSON.parse(text) as ProblemResource).refusals?.length, 3);
  assert.ok(!text.includes("truncated"));
});
