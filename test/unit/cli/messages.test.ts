import assert from "node:assert/strict";
import { test } from "node:test";
import type { DeliveryResource } from "../../../src/contract/message.ts";
import { CannedApi, problem, sendJson } from "./canned-api.ts";
import { runStitch, startStitch } from "./run-stitch.ts";

const on = (api: CannedApi, env: Record<string, string> = {}) => ({ STITCH_URL: api.url, ...env });
const sent = (...deliveries: DeliveryResource[]) => ({ messageId: "m1", deliveries });
const answers = (status: number, body: unknown) => CannedApi.start((_, response) => sendJson(response, status, body));

test("send: turns its arguments into a message", async () => {
  const cases = [
    [["orders-1", "hello"], { to: { stitch: "orders-1" }, data: "hello", expect: "none" }],
    [["n1:orders-1"], { to: { stitch: "n1:orders-1" }, data: "", expect: "none" }],
    [["shop.orders", '{"a":1}', "--ack"], { to: { group: "shop.orders" }, data: '{"a":1}', expect: "ack" }],
    [["shop", "x", "--group"], { to: { group: "shop" }, data: "x", expect: "none" }],
    [
      ["orders-1", "x", "--reply", "--channel", "news", "--timeout", "30s"],
      { to: { stitch: "orders-1" }, channel: "news", data: "x", expect: "reply", timeoutMs: 30_000 },
    ],
    [["shop.orders.1", "x", "--reply"], { to: { oneOf: "shop.orders.1" }, data: "x", expect: "reply" }],
    [["a", "--", "-1"], { to: { stitch: "a" }, data: "-1", expect: "none" }],
  ] as const;
  await Promise.all(
    cases.map(async ([args, body]) => {
      await using api = await answers(202, sent({ stitch: "n1:orders-1", status: "accepted" }));
      await runStitch(["send", ...args], on(api));
      const asked = api.asked.map((each) => [each.method, each.url, each.body]);
      assert.deepEqual(asked, [["POST", "/v1/messages", body]]);
    }),
  );
});

test("send -: sends exactly the bytes of stdin; refuses more than 1 MiB, and bytes that are not UTF-8", async () => {
  await using api = await answers(202, sent({ stitch: "n1:a", status: "accepted" }));
  const data = '\ufeff{"text": "ü\r\n\u0000"}\n';
  assert.equal((await runStitch(["send", "a", "-"], on(api), data)).code, 0);
  assert.deepEqual(api.asked[0]?.body, { to: { stitch: "a" }, data, expect: "none" });
  const long = await runStitch(["send", "a", "-"], on(api), "x".repeat(1024 * 1024 + 1));
  assert.deepEqual([long.code, long.stdout], [1, ""]);
  assert.match(long.stderr, /more than 1048576 bytes/);
  const bytes = await runStitch(["send", "a", "-"], on(api), Uint8Array.of(0xff));
  assert.deepEqual([bytes.code, bytes.stderr], [1, "stdin is not UTF-8: the data of a message is text\n"]);
  assert.equal(api.asked.length, 1);
});

test("send: prints a row for each stitch, and exits with 3 if one of them did not get the message", async () => {
  const rows: DeliveryResource[] = [
    { stitch: "n1:a", status: "acked" },
    { stitch: "n2:b", status: "replied", data: "two\nlines" },
    { stitch: "n2:c", status: "failed", code: "not_acknowledged" },
  ];
  await using api = await answers(200, sent(...rows));
  const ended = await runStitch(["send", "a.b", "x", "--ack"], on(api));
  assert.deepEqual(ended, {
    code: 3,
    stdout: [
      "STITCH  STATUS   CODE              REPLY",
      "n1:a    acked    -                 -",
      "n2:b    replied  -                 two\ufffdlines",
      "n2:c    failed   not_acknowledged  -",
      "",
    ].join("\n"),
    stderr: "What failed is kept: stitch dead-letters\n",
  });
  const accepted = { stitch: "n1:a", status: "accepted" } as const;
  const cases = [
    [["a.b"], [accepted, { ...accepted, stitch: "n1:b" }], 0],
    [["a.b"], [accepted, { stitch: "n1:b", status: "rejected", code: "inbox_full" }], 3],
    [["a.b", "", "--ack"], rows.slice(0, 2), 0],
    [
      ["a.b", "", "--ack"],
      [
        { stitch: "n1:a", status: "acked" },
        { stitch: "n1:b", status: "timeout" },
      ],
      3,
    ],
    [["a.b", "", "--ack"], [accepted], 3],
    [["a", "", "--ack"], [{ stitch: "n1:a", status: "timeout" }], 3],
    // The stitch has moved in the meantime.
    [
      ["a", "", "--ack"],
      [
        { stitch: "n1:a", status: "timeout" },
        { stitch: "n2:a", status: "acked" },
      ],
      0,
    ],
  ] as const;
  await Promise.all(
    cases.map(async ([args, deliveries, code]) => {
      await using each = await answers(200, sent(...deliveries));
      const result = await runStitch(["send", ...args], on(each));
      assert.equal(result.code, code, JSON.stringify([args, result]));
      assert.match(result.stdout, /^STITCH {2}STATUS/);
    }),
  );
});

test("send --reply: prints only the reply's data to stdout", async () => {
  const data = 'a "reply"\n\twith \u001b[31mcolour';
  await using api = await answers(200, sent({ stitch: "n1:a", status: "replied", data }));
  assert.deepEqual(await runStitch(["send", "a", "x", "--reply"], on(api)), {
    code: 0,
    stdout: `${data}\n`,
    stderr: "",
  });
  api.answerWith((_, response) => sendJson(response, 200, sent({ stitch: "n1:a", status: "accepted" })));
  const again = await runStitch(["send", "a", "x", "--reply", "--key", "k"], on(api));
  assert.deepEqual([again.code, again.stdout], [3, ""]);
  assert.match(again.stderr, /sent before/);
});

test("send: exits with 3 if the message was not delivered, and with 1 after other errors", async () => {
  const cases = [
    [502, "stitch_failed", 3],
    [504, "reply_timeout", 3],
    [429, "inbox_full", 3],
    [404, "no_recipient", 1],
    [409, "not_addressable", 1],
    [413, "too_large", 1],
  ] as const;
  await Promise.all(
    cases.map(async ([status, name, code]) => {
      await using api = await answers(status, problem(status, name));
      assert.deepEqual(await runStitch(["send", "a", "x", "--reply", "--json"], on(api)), {
        code,
        stdout: `${JSON.stringify(problem(status, name))}\n`,
        stderr: `${name}: about ${name}\n`,
      });
    }),
  );
});

test("send --json: prints the API's body and has the same exit codes", async () => {
  const body = sent({ stitch: "n1:a", status: "timeout" });
  await using api = await answers(200, body);
  const ended = await runStitch(["send", "a.b", "x", "--ack", "--json"], on(api));
  assert.deepEqual([ended.code, JSON.parse(ended.stdout)], [3, body]);
});

test("send: retries a cut connection and a 503 with the same key; if that fails, says how to find out", async () => {
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) response.destroy();
    else if (api.asked.length === 2) sendJson(response, 503, problem(503, "redis_unavailable"), { "retry-after": "0" });
    else sendJson(response, 202, sent({ stitch: "n1:a", status: "accepted" }));
  });
  assert.equal((await runStitch(["send", "a", "x"], on(api))).code, 0);
  const keys = api.asked.map((asked) => asked.headers["idempotency-key"]);
  assert.equal(keys.length, 3);
  assert.match(String(keys[0]), /^[0-9a-f-]{36}$/);
  assert.equal(new Set(keys).size, 1);
  api.answerWith((_, response) => void response.destroy());
  const cut = await runStitch(["send", "a", "x", "--key", "k-1"], on(api));
  assert.equal(cut.code, 1);
  assert.match(cut.stderr, /The message may have been accepted.*--key k-1/);
  api.answerWith(() => started.kill("SIGINT"));
  const started = startStitch(["send", "a", "x", "--key", "k-2"], on(api));
  const ended = await started.ended;
  assert.equal(ended.code, 130);
  assert.match(ended.stderr, /may have been accepted.*--key k-2/);
});

test("send: refuses wrong usage and says what is wrong", async () => {
  const env = { STITCH_URL: "http://127.0.0.1:9" };
  const cases = [
    [[], /missing required argument 'stitch\|group'/],
    [["a", "x", "--ack", "--reply"], /'--ack' cannot be used with option '--reply'/],
    [["a", "x", "--timeout", "5s"], /--timeout goes with --ack or --reply/],
    [["a", "x", "--ack", "--timeout", "5"], /A duration has a unit/],
  ] as const;
  for (const [args, message] of cases) {
    const ended = await runStitch(["send", ...args], env);
    assert.deepEqual([ended.code, ended.stdout], [1, ""], args.join(" "));
    assert.match(ended.stderr, message);
  }
});

const LETTER = {
  id: "n1.5-0",
  messageId: "m1",
  node: "n1",
  stitch: "n1:a",
  from: "n2:b",
  channel: "",
  data: `one\ntwo${"o".repeat(100)}`,
  code: "stitch_failed",
  reason: "the stitch said that it failed",
  tries: 5,
  at: "2026-11-23T09:00:00.000Z",
};

test("dead-letters: prints a table of the first ones, over short pages; --json prints the API's list", async () => {
  const asOf = "2026-11-23T11:30:00.000Z";
  await using api = await CannedApi.start(({ url }, response) => {
    const second = url.includes("cursor=c");
    sendJson(response, 200, { items: second ? [LETTER] : [], nextCursor: second ? null : "c", asOf });
  });
  const listed = await runStitch(["dead-letters", "--node", "n1", "--stitch", "a"], on(api));
  assert.deepEqual(listed, {
    code: 0,
    stdout: [
      `ID      STITCH  AGE  REASON${" ".repeat(39)}  TRIES  FROM  CHANNEL  DATA`,
      `n1.5-0  n1:a     2h  stitch_failed: the stitch said that it failed      5  n2:b  -        one\ufffdtwo${"o".repeat(32)}…`,
      "",
    ].join("\n"),
    stderr: "",
  });
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    ["/v1/dead-letters?node=n1&stitch=a&limit=20", "/v1/dead-letters?node=n1&stitch=a&limit=20&cursor=c"],
  );
  const asJson = await runStitch(["dead-letters", "--json", "--limit", "5"], on(api));
  assert.deepEqual(JSON.parse(asJson.stdout), { items: [LETTER], nextCursor: null, asOf });
  api.answerWith((_, response) => sendJson(response, 200, { items: [LETTER], nextCursor: "c", asOf: "t" }));
  assert.match((await runStitch(["dead-letters", "--limit", "1"], on(api))).stderr, /may be more: --limit \(now 1\)/);
  api.answerWith((_, response) => sendJson(response, 200, { items: [], nextCursor: null, asOf: "t" }));
  assert.deepEqual(await runStitch(["dead-letters"], on(api)), { code: 0, stdout: "", stderr: "No dead letters.\n" });
});

test("dead-letters redrive prints the new recipient, rm prints nothing; neither request is retried", async () => {
  await using api = await answers(202, sent({ stitch: "n2:a", status: "accepted" }));
  assert.deepEqual(await runStitch(["dead-letters", "redrive", "n1.5-0"], on(api)), {
    code: 0,
    stdout: "n2:a\n",
    stderr: "",
  });
  api.answerWith((_, response) => void response.writeHead(204).end());
  assert.deepEqual(await runStitch(["dead-letters", "rm", "n1.5-0"], on(api)), { code: 0, stdout: "", stderr: "" });
  assert.deepEqual(
    api.asked.map(({ method, url }) => `${method} ${url}`),
    ["POST /v1/dead-letters/n1.5-0/redrive", "DELETE /v1/dead-letters/n1.5-0"],
  );
  api.answerWith((_, response) => sendJson(response, 429, problem(429, "inbox_full")));
  assert.equal((await runStitch(["dead-letters", "redrive", "n1.5-0"], on(api))).code, 3);
  api.answerWith((_, response) => void response.destroy());
  for (const verb of ["redrive", "rm"])
    assert.equal((await runStitch(["dead-letters", verb, "n1.5-0"], on(api))).code, 1);
  assert.equal(api.asked.length, 5);
});
