import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { CannedApi, creating, job, problem, sendJson, sendPage, stitch } from "./canned-api.ts";
import { bareEnv, STITCH, runEach, runStitch, startStitch } from "./run-stitch.ts";

const on = (api: CannedApi, env: Record<string, string> = {}) => ({ STITCH_URL: api.url, ...env });
/** Has the format of a plan's token. */
const TOKEN = "0123456789abcdef".repeat(2);
const isDryRun = (body: unknown): boolean => (body as { dryRun?: true } | null)?.dryRun === true;
const planWith = (...warnings: readonly object[]) => ({
  feasible: true,
  tasks: [],
  placements: [],
  refusals: [],
  warnings,
  planToken: TOKEN,
  asOf: "2026-11-23T09:00:00.000Z",
});
const succeeds = (_: unknown, response: Parameters<typeof sendJson>[0]) => sendJson(response, 200, job("succeeded"));

test("a command is sent with body, key and token; its message goes to stderr and nothing to stdout", async () => {
  await using api = await CannedApi.start(succeeds);
  const ended = await runStitch(["stop", "n1:orders-1", "--reason", "why"], on(api, { STITCH_TOKEN: "secret-1" }));
  assert.deepEqual([ended.code, ended.stdout], [0, ""], ended.stderr);
  assert.match(ended.stderr, /^✔ stitch\.start n1:orders-1: succeeded, 1 of 1, 250 ms\n$/);
  const [asked] = api.asked;
  assert.deepEqual(asked?.body, { command: "stitch.stop", target: "n1:orders-1", reason: "why" });
  assert.match(asked?.url ?? "", /^\/v1\/commands\?waitMs=1000$/);
  assert.match(String(asked?.headers["idempotency-key"]), /^[0-9a-f-]{36}$/);
  assert.equal(asked?.headers.authorization, "Bearer secret-1");
});

test("each command sends the right body", async () => {
  const cases = [
    [["start", "orders-1"], { command: "stitch.start", target: "orders-1" }],
    [["stop", "shop.orders"], { command: "group.stop", target: "shop.orders" }],
    [["restart", "n1:orders-1"], { command: "stitch.restart", target: "n1:orders-1" }],
    [["restart", "shop.orders"], { command: "group.restart", target: "shop.orders" }],
    [["restart", "shop", "--group"], { command: "group.restart", target: "shop" }],
    [["restart", "shop.orders", "--batch", "25%"], { command: "group.restart", target: "shop.orders", batch: "25%" }],
    [["restart", "shop", "--group", "--batch", "3"], { command: "group.restart", target: "shop", batch: 3 }],
    [["move", "orders-1"], { command: "stitch.move", target: "orders-1" }],
    [["move", "n1:orders-1", "--to", "n2"], { command: "stitch.move", target: "n1:orders-1", toNode: "n2" }],
    [["scale", "a.b.1", "0"], { command: "group.scale", target: "a.b.1", count: 0 }],
    [
      ["scale", "a.b.1", "5", "--zone", "a,b", "--label", "disk=ssd", "--strategy", "binpack", "--plan", TOKEN],
      {
        command: "group.scale",
        target: "a.b.1",
        count: 5,
        placement: { strategy: "binpack", zones: ["a", "b"], labels: { disk: "ssd" } },
        planToken: TOKEN,
      },
    ],
    [
      ["scale", "a.b.1", "2", "--min-healthy", "10s"],
      { command: "group.scale", target: "a.b.1", count: 2, minHealthyMs: 10_000 },
    ],
    [["restart", "a.b", "--min-healthy", "1m"], { command: "group.restart", target: "a.b", minHealthyMs: 60_000 }],
    [["move", "b-1", "--min-healthy", "10s"], { command: "stitch.move", target: "b-1", minHealthyMs: 10_000 }],
    [["rebalance", "shop", "--min-healthy", "1s"], { command: "group.rebalance", target: "shop", minHealthyMs: 1000 }],
    [["drain", "n1", "--min-healthy", "1s"], { command: "node.drain", target: "n1", minHealthyMs: 1000 }],
    [
      ["stop-old", "a.b.2", "--min-healthy", "10s", "--force"],
      { command: "group.stopOldVersions", target: "a.b.2", force: true, minHealthyMs: 10_000 },
    ],
    [["rebalance", "shop"], { command: "group.rebalance", target: "shop" }],
    [["rebalance", "shop", "--max-moves", "3"], { command: "group.rebalance", target: "shop", maxMoves: 3 }],
    [["stop-old", "a.b.2"], { command: "group.stopOldVersions", target: "a.b.2" }],
    [["drain", "n1"], { command: "node.drain", target: "n1" }],
    [["drain", "n2", "--force-after", "10m", "--yes"], { command: "node.drain", target: "n2", forceAfterMs: 600_000 }],
    [["clone", "orders-1"], { command: "stitch.clone", target: "orders-1" }],
    [
      ["clone", "n1:orders-1", "--to", "n2", "--reason", "more", "--deadline", "5s", "--wait-for-node"],
      {
        command: "stitch.clone",
        target: "n1:orders-1",
        toNode: "n2",
        deadlineMs: 5000,
        waitForNode: true,
        reason: "more",
      },
    ],
    [["rm", "shop", "--group"], { command: "group.remove", target: "shop" }],
    [["rm", "orders-1"], { command: "stitch.remove", target: "orders-1" }],
    [["ping", "n1", "--wait-for-node"], { command: "node.ping", target: "n1", waitForNode: true }],
    [["cordon", "n1", "--deadline", "5s"], { command: "node.cordon", target: "n1", deadlineMs: 5000 }],
    [
      ["relabel", "n1", "disk=ssd", "old-", "note=a=b-", "empty="],
      { command: "node.relabel", target: "n1", labels: { disk: "ssd", old: null, note: "a=b-", empty: "" } },
    ],
    [["uncordon", "n1", "--plan", TOKEN], { command: "node.uncordon", target: "n1", planToken: TOKEN }],
    [
      ["run", "a.b.1", "--count", "2", "--env", "A=1", "--env", "B=x=y", "--", "node", "w.js", "--count", "3"],
      {
        command: "stitch.create",
        target: "a.b.1",
        spec: {
          adaptor: "process",
          command: ["node", "w.js", "--count", "3"],
          env: { A: "1", B: "x=y" },
          protocol: "none",
        },
        count: 2,
      },
    ],
    [
      ["run", "a.b.1", "--check", "http:8080/health", "--", "x"],
      {
        command: "stitch.create",
        target: "a.b.1",
        spec: {
          adaptor: "process",
          command: ["x"],
          protocol: "none",
          check: { http: { port: 8080, path: "/health" } },
        },
      },
    ],
  ] as const;
  await using api = await CannedApi.start(({ body }, response) =>
    sendJson(response, 200, isDryRun(body) ? planWith() : job("succeeded")),
  );
  const ends = await runEach(
    cases.map(([args]) => args),
    on(api),
  );
  for (const end of ends) assert.equal(end.code, 0, end.stderr);
  for (const [args, body] of cases) {
    assert.ok(
      api.asked.some((asked) => JSON.stringify(asked.body) === JSON.stringify(body)),
      args.join(" "),
    );
  }
});

test("run prints the full ids that it created, and reads a spec from stdin", async () => {
  await using api = await CannedApi.start(succeeds);
  const spec = { adaptor: "module", module: "m" };
  const ended = await runStitch(["run", "a.b.1", "--spec", "-"], on(api), JSON.stringify(spec));
  assert.deepEqual([ended.code, ended.stdout], [0, "n1:orders-1\n"], ended.stderr);
  assert.deepEqual(api.asked[0]?.body, { command: "stitch.create", target: "a.b.1", spec });
});

test("clone prints the full id that it created; a failed clone prints only the reason", async () => {
  const tasks = creating("n2:orders-2");
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("succeeded", { tasks })));
  const done = await runStitch(["clone", "n1:orders-1", "--to", "n2"], on(api));
  assert.deepEqual([done.code, done.stdout], [0, "n2:orders-2\n"], done.stderr);
  api.answerWith((_, response) => sendJson(response, 200, job("failed")));
  const failed = await runStitch(["clone", "n1:orders-1"], on(api));
  assert.deepEqual([failed.code, failed.stdout], [3, ""]);
  assert.match(failed.stderr, /exited_early/);
});

test("restart prints nothing to stdout; for an ambiguous id it lists the candidates", async () => {
  await using api = await CannedApi.start(succeeds);
  const done = await runStitch(["restart", "orders-1"], on(api));
  assert.deepEqual([done.code, done.stdout], [0, ""], done.stderr);
  const candidates = ["n1:orders-1", "n2:orders-1"];
  api.answerWith((_, response) => sendJson(response, 409, problem(409, "ambiguous_stitch", { candidates })));
  const ambiguous = await runStitch(["restart", "orders-1"], on(api));
  assert.deepEqual([ambiguous.code, ambiguous.stdout], [1, ""]);
  for (const candidate of candidates) assert.ok(ambiguous.stderr.includes(candidate), ambiguous.stderr);
});

test("plan clone and plan restart show what would be done and change nothing", async () => {
  const plan = {
    command: "stitch.clone",
    target: "orders-1",
    feasible: true,
    tasks: [{ node: "n2", steps: [{ action: "create", stitch: "n2:orders-2" }] }],
    placements: [{ stitch: "n2:orders-2", node: "n2", reason: "named in the command" }],
    refusals: [],
    warnings: [],
    planToken: "tok-2",
    asOf: "2026-11-23T09:00:00.000Z",
  };
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, plan));
  const cloned = await runStitch(["plan", "clone", "orders-1", "--to", "n2"], on(api));
  assert.deepEqual([cloned.code, /n2 {4}create {2}n2:orders-2/.test(cloned.stdout)], [0, true], cloned.stdout);
  assert.deepEqual(api.asked[0]?.body, { command: "stitch.clone", target: "orders-1", toNode: "n2", dryRun: true });
  assert.equal((await runStitch(["plan", "restart", "orders-1"], on(api))).code, 0);
  assert.deepEqual(api.asked[1]?.body, { command: "stitch.restart", target: "orders-1", dryRun: true });
});

test("a failed job exits with 3 and prints code, message and stderr of each failed step, safe for a terminal", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("failed")));
  const ended = await runStitch(["start", "orders-1"], on(api));
  assert.equal(ended.code, 3);
  assert.match(ended.stderr, /✖ stitch\.start n1:orders-1: failed, 0 of 1/);
  assert.match(
    ended.stderr,
    /n1:orders-1: start failed: exited_early: it exited with 3\n {4}\| line one\n {4}\| boom �\[31mred/,
  );
});

test("--json prints only the API's body: a job, a list or a problem", async () => {
  await using api = await CannedApi.start(succeeds);
  const sent = await runStitch(["start", "x", "--json"], on(api));
  assert.deepEqual(JSON.parse(sent.stdout), job("succeeded"));
  const page = { items: [], nextCursor: null, asOf: "2026-11-23T09:00:00.000Z", later: 1 };
  api.answerWith((_, response) => sendJson(response, 200, page));
  assert.deepEqual(JSON.parse((await runStitch(["nodes", "--json"], on(api))).stdout), page);
  api.answerWith((_, response) => sendJson(response, 404, problem(404, "not_found")));
  const missing = await runStitch(["ps", "x", "--json"], on(api));
  assert.deepEqual([missing.code, JSON.parse(missing.stdout)], [1, problem(404, "not_found")]);
});

test("--detach prints only the job's id and does not wait", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 202, job("running")));
  const ended = await runStitch(["stop", "x", "--detach"], on(api));
  assert.deepEqual(ended, { code: 0, stdout: `${job("running").id}\n`, stderr: "" });
  assert.equal(api.asked[0]?.url, "/v1/commands?waitMs=0");
});

test("a job that still runs after --timeout exits with 5 and says how to follow it", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 202, job("running")));
  const ended = await runStitch(["stop", "x", "--timeout", "300ms"], on(api));
  assert.equal(ended.code, 5);
  assert.match(ended.stderr, /^running {2}0\/1 {2}n1 0\/1\nstill running after 300 ms\..* stitch jobs watch j/);
});

test("Ctrl-C while the job runs exits with 130, lets the job go on and says how to follow it", async () => {
  await using api = await CannedApi.start(({ method }, response) => {
    if (method === "POST") sendJson(response, 202, job("running"));
    else started.kill("SIGINT");
  });
  const started = startStitch(["stop", "x"], on(api));
  const ended = await started.ended;
  assert.equal(ended.code, 130, ended.stderr);
  assert.match(ended.stderr, /The job goes on\. To follow it: stitch jobs watch jaaa/);
});

test("Ctrl-C before the answer exits with 130 and prints the key that makes a repetition safe", async () => {
  await using api = await CannedApi.start(() => started.kill("SIGINT"));
  const started = startStitch(["stop", "x", "--key", "k-1"], on(api));
  const ended = await started.ended;
  assert.equal(ended.code, 130);
  assert.match(ended.stderr, /may have been accepted.*--key k-1/);
});

test("a cut connection and a 503 are retried with the same key", async () => {
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) response.destroy();
    else if (api.asked.length === 2) sendJson(response, 503, problem(503, "redis_unavailable"), { "retry-after": "0" });
    else sendJson(response, 200, job("succeeded"));
  });
  assert.equal((await runStitch(["stop", "x"], on(api))).code, 0);
  const keys = new Set(api.asked.map((asked) => asked.headers["idempotency-key"]));
  assert.deepEqual([api.asked.length, keys.size], [3, 1]);
});

test("a proxy's page is retried with the same key; in the end it says that the command may have been accepted", async () => {
  await using api = await CannedApi.start((_, response) => sendPage(response, 504));
  const ended = await runStitch(["stop", "x", "--key", "k-1"], on(api));
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /may have been accepted.*--key k-1[^]*status 504 with text\/html; a proxy answers so/);
  assert.deepEqual(
    api.asked.map(({ headers }) => headers["idempotency-key"]),
    ["k-1", "k-1", "k-1"],
  );
});

test("if the API does not answer, prints its URL and suggests stitch up", async () => {
  const api = await CannedApi.start(succeeds);
  const { url } = api;
  await api[Symbol.asyncDispose]();
  const ended = await runStitch(["status"], { STITCH_URL: url });
  assert.deepEqual([ended.code, ended.stdout], [1, ""]);
  assert.ok(ended.stderr.includes(url) && ended.stderr.includes("stitch up"), ended.stderr);
});

test("if another program answers at the URL, says that it is not a CrossStitch API", async () => {
  await using api = await CannedApi.start((_, response) => {
    response.writeHead(200, { "content-type": "text/html" }).end("<html>");
  });
  const ended = await runStitch(["status"], on(api));
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /not a CrossStitch API/);
});

test("a failed placement exits with 2 and lists the refusals; so does its plan, with its tables", async () => {
  const refusals = [{ node: "n1", code: "memory", message: "asks for 2 of 1" }];
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 409, problem(409, "placement_failed", { refusals })),
  );
  const run = await runStitch(["run", "a.b.1", "--", "x"], on(api));
  assert.equal(run.code, 2);
  assert.match(run.stderr, /placement_failed: about.*\n {2}n1 {2}memory {2}asks for 2 of 1/);
  const plan = {
    command: "stitch.create",
    target: "a.b.1",
    feasible: false,
    tasks: [],
    placements: [],
    refusals,
    warnings: [],
    planToken: null,
    asOf: "2026-11-23T09:00:00.000Z",
  };
  api.answerWith((_, response) => sendJson(response, 200, plan));
  const planned = await runStitch(["plan", "run", "a.b.1", "--", "x"], on(api));
  assert.equal(planned.code, 2);
  assert.match(planned.stdout, /Refusals\nNODE {2}CODE {4}MESSAGE\nn1 {4}memory {2}asks for 2 of 1/);
  assert.match(JSON.stringify(api.asked.at(-1)?.body), /"dryRun":true/);
});

test("a feasible plan prints its placements, tasks and token", async () => {
  const plan = {
    command: "stitch.create",
    target: "a.b.1",
    feasible: true,
    tasks: [{ node: "n1", steps: [{ action: "create", stitch: "n1:b-1" }] }],
    placements: [{ stitch: "n1:b-1", node: "n1", reason: "fewest of the group" }],
    refusals: [],
    warnings: [{ code: "same_zone", message: "all in one zone" }],
    planToken: "tok-1",
    asOf: "2026-11-23T09:00:00.000Z",
  };
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, plan));
  const { code, stdout } = await runStitch(["plan", "run", "a.b.1", "--", "x"], on(api));
  assert.equal(code, 0);
  assert.match(stdout, /n1:b-1 {2}n1 {4}fewest of the group/);
  assert.match(stdout, /n1 {4}create {2}n1:b-1/);
  assert.match(stdout, /same_zone {2}- {7}all in one zone/);
  assert.match(stdout, /--plan tok-1\n$/);
});

test("plan takes every changing command, sends the same body with dryRun and changes nothing", async () => {
  const plan = {
    command: "group.restart",
    target: "a.b.1",
    feasible: true,
    tasks: [],
    placements: [],
    refusals: [],
    warnings: [{ code: "cannot_move", message: "it stays", stitch: "n1:b-1" }],
    planToken: "tok-3",
    asOf: "2026-11-23T09:00:00.000Z",
  };
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, plan));
  const cases = [
    [["move", "b-1", "--to", "n2"], { command: "stitch.move", target: "b-1", toNode: "n2" }],
    [["scale", "a.b.1", "2", "--zone", "a"], { command: "group.scale", target: "a.b.1", count: 2 }],
    [["rebalance", "a", "--max-moves", "0"], { command: "group.rebalance", target: "a", maxMoves: 0 }],
    [["stop-old", "a.b.2"], { command: "group.stopOldVersions", target: "a.b.2" }],
    [["drain", "n1", "--force-after", "1h"], { command: "node.drain", target: "n1", forceAfterMs: 3_600_000 }],
    [["restart", "a.b", "--batch", "2"], { command: "group.restart", target: "a.b", batch: 2 }],
  ] as const;
  for (const [args, body] of cases) {
    const { code, stdout, stderr } = await runStitch(["plan", ...args], on(api));
    assert.deepEqual([code, stderr], [0, ""], args.join(" "));
    assert.match(stdout, /^Nothing is to be done\.\n[^]*cannot_move {2}n1:b-1 {2}it stays\n[^]*--plan tok-3\n$/);
    assert.partialDeepStrictEqual(api.asked.at(-1)?.body, { ...body, dryRun: true });
  }
});

test("jobs retry and jobs rollback create a new job and exit as that job ends", async () => {
  const tasks = creating("n1:orders-1", "n2:orders-1");
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("succeeded", { tasks })));
  for (const act of ["retry", "rollback"]) {
    const done = await runStitch(["jobs", act, "j1"], on(api));
    assert.deepEqual([done.code, done.stdout], [0, "n1:orders-1\nn2:orders-1\n"]);
    assert.match(done.stderr, /^The new job: ja+\n✔ /);
    const { method, url, body } = api.asked.at(-1) ?? assert.fail();
    assert.deepEqual([method, url, body], ["POST", `/v1/jobs/j1/${act}`, null]);
    const detached = await runStitch(["jobs", act, "j1", "--detach"], on(api));
    assert.deepEqual(detached, { code: 0, stdout: `${job("succeeded").id}\n`, stderr: "" });
  }
  await runStitch(["jobs", "rollback", "j1", "--reason", "it is slow"], on(api));
  assert.deepEqual(api.asked.at(-1)?.body, { reason: "it is slow" });
  api.answerWith((_, response) => sendJson(response, 200, job("failed")));
  assert.equal((await runStitch(["jobs", "retry", "j1"], on(api))).code, 3);
  api.answerWith((_, response) => sendJson(response, 409, problem(409, "group_busy", { jobId: "j2" })));
  const busy = await runStitch(["jobs", "rollback", "j1"], on(api));
  assert.deepEqual([busy.code, busy.stderr], [1, "group_busy: about group_busy\n  see: stitch jobs j2\n"]);
  api.answerWith((_, response) => sendJson(response, 409, problem(409, "placement_failed", { refusals: [] })));
  assert.equal((await runStitch(["jobs", "rollback", "j1"], on(api))).code, 2);
});

test("jobs JOB shows the options, the current wave and the related jobs", async () => {
  const shown = job("running", {
    options: { batch: "25%", timeoutMs: 30_000, spec: { adaptor: "process" } },
    progress: { wave: 2, waves: 4, message: "1 of 4 restarted" },
    retryOf: "j1",
    rolledBackBy: "j2",
  });
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, shown));
  const { code, stdout } = await runStitch(["jobs", shown.id], on(api));
  assert.equal(code, 0);
  assert.match(stdout, /^options +batch=25%, timeoutMs=30000$/m);
  assert.match(stdout, /^progress +wave 2 of 4, 1 of 4 restarted$/m);
  assert.match(stdout, /^retry of +j1\nrolled back by +j2$/m);
  assert.doesNotMatch(stdout, /retried by|rollback of/);
});

test("jobs watch exits as the job ends; jobs cancel succeeds if the job ends as cancelled", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("failed")));
  assert.equal((await runStitch(["jobs", "watch", "j1"], on(api))).code, 3);
  assert.equal((await runStitch(["jobs", "cancel", "j1"], on(api))).code, 3);
  api.answerWith((_, response) => sendJson(response, 200, job("cancelled")));
  assert.equal((await runStitch(["jobs", "cancel", "j1"], on(api))).code, 0);
  assert.deepEqual(api.asked.map(({ method, url }) => `${method} ${url}`).at(-1), "POST /v1/jobs/j1/cancel");
});

for (const [signal, code] of [
  ["SIGTERM", 143],
  ["SIGHUP", 129],
  ["SIGQUIT", 131],
] as const)
  test(`${signal} ends a following command in good order: the API sees it end; its exit code tells the signal`, async () => {
    const closed = Promise.withResolvers<void>();
    await using api = await CannedApi.start(async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(LINES.map((line) => `event: line\ndata: ${JSON.stringify(line)}\n\n`).join(""));
      await started.firstOutput;
      started.kill(signal);
      await once(response, "close");
      closed.resolve();
    });
    const started = startStitch(["logs", "-f", "a"], on(api));
    const ended = await started.ended;
    await closed.promise;
    assert.deepEqual([ended.code, ended.stdout, ended.stderr], [code, SHOWN, ""]);
  });

test("events -f --json prints one event per line until Ctrl-C", async () => {
  const event = {
    id: "1-0",
    type: "node.joined",
    at: "t",
    node: "n1",
    stitch: null,
    group: null,
    job: null,
    data: null,
  };
  const closed = Promise.withResolvers<void>();
  await using api = await CannedApi.start(async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`id: 1-0\nevent: node.joined\ndata: ${JSON.stringify(event)}\n\n`);
    await started.firstOutput;
    started.kill("SIGINT");
    await once(response, "close");
    closed.resolve();
  });
  const started = startStitch(["events", "-f", "--json", "--type", "node.*"], on(api));
  const ended = await started.ended;
  await closed.promise;
  assert.deepEqual([ended.code, ended.stdout], [130, `${JSON.stringify(event)}\n`], ended.stderr);
  assert.equal(api.asked[0]?.url, "/v1/events?type=node.*");
});

const LINES = [
  { at: "2026-11-23T09:00:00.000Z", source: "stdout", line: "plain\ttab" },
  { at: "2026-11-23T09:00:00.001Z", source: "stderr", line: "\u001b[31mred\u001b[0m \u0007bell" },
];
const SHOWN = "2026-11-23T09:00:00.000Z stdout plain\ttab\n2026-11-23T09:00:00.001Z stderr red \ufffdbell\n";

test("logs prints time, source and line, safe for a terminal; logs --json prints the API's body", async () => {
  const page = { items: LINES, nextCursor: null, asOf: "t" };
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, page));
  assert.deepEqual(await runStitch(["logs", "n1:a", "-n", "5"], on(api)), { code: 0, stdout: SHOWN, stderr: "" });
  assert.equal(api.asked[0]?.url, "/v1/stitches/n1%3Aa/logs?tail=5");
  assert.deepEqual(JSON.parse((await runStitch(["logs", "a", "--json"], on(api))).stdout), page);
  assert.equal(api.asked[1]?.url, "/v1/stitches/a/logs?tail=100");
  const coloured = await runStitch(["logs", "a"], on(api, { FORCE_COLOR: "1" }));
  assert.ok(coloured.stdout.includes("\u001b[31mstderr\u001b[39m red \ufffdbell\n"), JSON.stringify(coloured.stdout));
  api.answerWith((_, response) => sendJson(response, 504, problem(504, "node_unreachable")));
  const away = await runStitch(["logs", "a"], on(api));
  assert.deepEqual([away.code, away.stdout], [1, ""]);
  assert.match(away.stderr, /node_unreachable: about/);
});

test("--json output cannot control a terminal: it also escapes what JSON need not escape", async () => {
  const page = { items: [{ at: "t", source: "stdout", line: "\u009b2J\u007f\u202e" }], nextCursor: null, asOf: "t" };
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, page));
  const { stdout } = await runStitch(["logs", "a", "--json"], on(api));
  assert.match(stdout, /"line":"\\u009b2J\\u007f\\u202e"/);
  assert.deepEqual(JSON.parse(stdout), page);
});

test("logs -f prints lines as they come, as text or with --json, until Ctrl-C", async () => {
  for (const [args, expected] of [
    [["logs", "-f", "a"], SHOWN],
    [["logs", "-f", "a", "--json"], LINES.map((line) => `${JSON.stringify(line)}\n`).join("")],
  ] as const) {
    await using api = await CannedApi.start(async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(LINES.map((line) => `event: line\ndata: ${JSON.stringify(line)}\n\n`).join(""));
      await started.firstOutput;
      started.kill("SIGINT");
    });
    const started = startStitch(args, on(api));
    const ended = await started.ended;
    assert.deepEqual([ended.code, ended.stdout], [130, expected], ended.stderr);
    assert.equal(api.asked[0]?.headers.accept, "text/event-stream");
  }
});

test("usage errors exit with 1 and say what to type", async () => {
  const env = { STITCH_URL: "http://127.0.0.1:9" };
  const cases = [
    [["node", "n1"], /did you mean stitch nodes n1\?/],
    [["run", "a.b.1", "node", "w.js"], /Put -- before the program: stitch run a\.b\.1 -- node w\.js/],
    [["run", "a.b.1"], /What should run\?/],
    [["stop", "x", "--timeout", "5"], /A duration has a unit/],
    [["restart"], /missing required argument/],
    [["restart", "x", "--batch", "2"], /--batch and --min-healthy are for groups/],
    [["restart", "x", "--min-healthy", "2s"], /--batch and --min-healthy are for groups/],
    [["restart", "a.b", "--batch", "0%"], /a count, or a part such as 25%/],
    [["scale", "a.b.1"], /missing required argument 'n'/],
    [["scale", "a.b.1", "many"], /whole number from 0/],
    [["rebalance", "a", "--max-moves", "-1"], /whole number from 0/],
    [["drain", "n1", "--force-after", "5"], /A duration has a unit/],
    [["relabel", "n1", "disk"], /NAME=VALUE, or NAME- to take the label away/],
    [["relabel", "n1", "=ssd"], /NAME=VALUE/],
    [["relabel", "n1", "-"], /NAME=VALUE/],
    [["relabel", "n1", "disk=ssd", "disk-"], /disk is named twice/],
    [["relabel", "n1"], /missing required argument 'label'/],
    [["uncordon", "n1", "--plan", "deadbeef"], /the token that stitch plan prints/],
    [["plan", "drain", "n1", "--yes"], /unknown option '--yes'/],
    [["clone"], /missing required argument/],
    [["clone", "x", "--to"], /argument missing/],
    [["stopp", "x"], /unknown command 'stopp'/],
    [["run", "a.b.1", "--strategy", "fast", "--", "x"], /Allowed choices are spread, binpack/],
    [["run", "a.b.1", "--check", "8080", "--", "x"], /It is http:PORT\/PATH, tcp:PORT or exec:"COMMAND ARG…"/],
    [["run", "a.b.1", "--spec", "/no/such/file"], /spec cannot be read: ENOENT/],
    [["logs", "a", "-n", "10001"], /whole number from 0 to 10000/],
    [["logs"], /missing required argument 'stitch'/],
    [["api", "--port", "none"], /STITCH_PORT: must be a whole number/],
    [["node", "--id", "Not_An_Id"], /STITCH_NODE_ID: a node id is/],
  ] as const;
  const ends = await runEach(
    cases.map(([args]) => args),
    env,
  );
  for (const [index, [args, message]] of cases.entries()) {
    assert.equal(ends[index]?.code, 1, args.join(" "));
    assert.equal(ends[index]?.stdout, "", args.join(" "));
    assert.match(ends[index]?.stderr ?? "", message);
  }
  const unknown = await runStitch(["nodes"], { STITCH_URLL: "x" });
  assert.deepEqual([unknown.code, unknown.stderr], [1, "STITCH_URLL: no such setting\n"]);
});

test("a token that cannot be sent, or a URL with a password, is reported on one line, without its value", async () => {
  for (const [name, wrong] of [
    ["STITCH_TOKEN", "canary\ncanary"],
    ["STITCH_URL", "http://any:canary@127.0.0.1"],
  ] as const) {
    const { code, stdout, stderr } = await runStitch(["nodes"], { [name]: wrong });
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, new RegExp(`^${name}: [^\n]+\n$`));
    assert.doesNotMatch(stderr, /canary/);
  }
});

test("one wrong field is reported once, several are reported as a list", async () => {
  const path = "spec.command";
  const message = 'must be a list of words, such as ["sleep", "60"]';
  const errors = [{ path, message }];
  const refused = (more: object) => problem(400, "invalid_request", { detail: `${path}: ${message}`, ...more });
  await using api = await CannedApi.start((_, response) => sendJson(response, 400, refused({ errors })));
  const run = () => runStitch(["run", "a.b.1", "--", "x"], on(api));
  assert.equal((await run()).stderr, `invalid_request: ${path}: ${message}\n`);
  const two = [...errors, { path: "", message: "is required" }];
  api.answerWith((_, response) => sendJson(response, 400, refused({ errors: two, title: "It is not valid" })));
  assert.equal((await run()).stderr, `invalid_request: It is not valid\n  ${path}: ${message}\n  body: is required\n`);
});

test("a target that is not found: names the command that lists targets, and suggests --group for a group", async () => {
  let isGroup = true;
  const detail = 'There is no stitch "shop"; GET /v1/stitches lists them.';
  await using api = await CannedApi.start(({ url }, response) => {
    if (url === "/v1/groups/shop" && isGroup) sendJson(response, 200, { group: "shop" });
    else sendJson(response, 404, problem(404, url === "/v1/messages" ? "no_recipient" : "not_found", { detail }));
  });
  const said = 'There is no stitch "shop"; stitch ps lists them.\n';
  const hint = "shop is a group: add --group.\n";
  const hinted = [
    ["stop", "shop"],
    ["plan", "restart", "shop"],
    ["ps", "shop"],
    ["send", "shop", "x"],
  ];
  for (const [index, { code, stderr }] of (await runEach(hinted, on(api))).entries()) {
    const name = hinted[index]?.[0] === "send" ? "no_recipient" : "not_found";
    assert.deepEqual([code, stderr], [1, `${name}: ${said}${hint}`], hinted[index]?.join(" "));
  }
  const plain = [
    ["logs", "shop"],
    ["stop", "shop", "--group"],
    ["move", "shop"],
  ];
  for (const { stderr } of await runEach(plain, on(api))) assert.equal(stderr, `not_found: ${said}`);
  isGroup = false;
  assert.equal((await runStitch(["stop", "shop"], on(api))).stderr, `not_found: ${said}`);
});

test("a stale plan: prints the new plan and its token to stderr", async () => {
  const plan = {
    command: "node.uncordon",
    target: "n1",
    feasible: true,
    tasks: [{ node: "n1", steps: [{ action: "uncordon", stitch: null }] }],
    placements: [],
    refusals: [],
    warnings: [],
    planToken: TOKEN,
    asOf: "2026-11-23T09:00:00.000Z",
  };
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 409, problem(409, "plan_stale", { plan })),
  );
  const uncordon = ["uncordon", "n1", "--plan", "f".repeat(32)];
  const { code, stdout, stderr } = await runStitch(uncordon, on(api));
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /^plan_stale: about plan_stale\nTasks\nNODE {2}ACTION {4}STITCH\nn1 {4}uncordon {2}-\n/);
  assert.match(stderr, new RegExp(`--plan ${TOKEN}\n$`));
  const asJson = await runStitch([...uncordon, "--json"], on(api));
  assert.equal(asJson.stderr, "plan_stale: about plan_stale\n");
});

test("ps of a stitch that does not come up says where to read the reason", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, stitch({ state: "failed" })));
  assert.equal((await runStitch(["ps", "orders-1"], on(api))).stderr, "Why it is failed: stitch logs n1:orders-1\n");
  assert.equal((await runStitch(["ps", "orders-1", "--json"], on(api))).stderr, "");
  api.answerWith((_, response) => sendJson(response, 200, stitch()));
  assert.equal((await runStitch(["ps", "orders-1"], on(api))).stderr, "");
});

test("move, drain and rebalance print the warnings of their plan when they are carried out", async () => {
  const warning = { code: "data_stays", message: "node.drain leaves its data where it is", stitch: "n1:orders-1" };
  await using api = await CannedApi.start(({ body }, response) =>
    sendJson(response, 200, isDryRun(body) ? planWith(warning) : job("succeeded")),
  );
  const said = "warning: data_stays n1:orders-1: stitch drain leaves its data where it is\n";
  for (const args of [
    ["move", "orders-1"],
    ["drain", "n1"],
    ["rebalance", "shop.orders"],
  ]) {
    const { code, stdout, stderr } = await runStitch(args, on(api));
    assert.deepEqual([code, stdout, stderr.startsWith(said)], [0, "", true], stderr);
    const [planned, sent] = api.asked.slice(-2).map(({ body }) => body as object);
    assert.deepEqual(planned, { ...sent, dryRun: true });
  }
  api.answerWith(({ body }, response) =>
    isDryRun(body) ? sendJson(response, 404, problem(404, "not_found")) : sendJson(response, 200, job("succeeded")),
  );
  assert.equal(
    (await runStitch(["move", "orders-1", "--key", "again"], on(api))).code,
    0,
    "given before, under its key",
  );
});

test("a filter that names something unknown is an error, not an empty list", async () => {
  let exists = false;
  await using api = await CannedApi.start(({ url }, response) => {
    if (/[?]|^.v1.(stitches|events)$/.test(url)) sendJson(response, 200, { items: [], nextCursor: null, asOf: "t" });
    else if (exists) sendJson(response, 200, {});
    else sendJson(response, 404, problem(404, "not_found"));
  });
  const cases = [
    ["ps", "--node", "n9"],
    ["ps", "web.typo"],
    ["events", "--node", "n9"],
    ["events", "--group", "web.typo", "--json"],
    ["events", "-f", "--node", "n9"],
    ["dead-letters", "--node", "n9"],
    ["dead-letters", "--stitch", "typo"],
  ];
  for (const [index, { code, stderr }] of (await runEach(cases, on(api))).entries())
    assert.deepEqual([code, stderr], [1, "not_found: about not_found\n"], cases[index]?.join(" "));
  exists = true;
  assert.deepEqual(await runStitch(["ps", "web.front"], on(api)), { code: 0, stdout: "", stderr: "No stitches.\n" });
  assert.deepEqual(await runStitch(["events"], on(api)), { code: 0, stdout: "", stderr: "No events.\n" });
});

const EVENT = { type: "node.joined", at: "t", node: "n1", stitch: null, group: null, job: null, data: null };

test("events prints events with their ids, oldest first, over all pages", async () => {
  await using api = await CannedApi.start(({ url }, response) => {
    const second = url.includes("cursor=before-2-0");
    const items = (second ? ["1-0"] : ["2-0", "3-0"]).map((id) => ({ id, ...EVENT }));
    sendJson(response, 200, { items, nextCursor: second ? null : "before-2-0", asOf: "t" });
  });
  const lines = (...ids: string[]) => ids.map((id) => `${id}  t  node.joined       n1\n`).join("");
  const all = await runStitch(["events", "--type", "node.*"], on(api));
  assert.deepEqual(all, { code: 0, stdout: lines("1-0", "2-0", "3-0"), stderr: "" });
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    ["/v1/events?type=node.*&limit=100", "/v1/events?type=node.*&limit=98&cursor=before-2-0"],
  );
  const two = await runStitch(["events", "--limit", "2"], on(api));
  assert.equal(two.stdout, lines("2-0", "3-0"));
  assert.match(two.stderr, /may be more: --limit \(now 2\)/);
  api.answerWith((_, response) => sendJson(response, 200, { items: [], nextCursor: null, asOf: "t" }));
  await runStitch(["events", "--since", "2026-11-23T09:00:00Z"], on(api));
  assert.equal(api.asked.at(-1)?.url, "/v1/events?since=2026-11-23T09%3A00%3A00.000Z&limit=1000");
  const bad = await runStitch(["events", "--since", "yesterday"], on(api));
  assert.deepEqual([bad.code, /a duration such as 10m/.test(bad.stderr)], [1, true]);
});

test("a following command ends when its reader has closed, even if nothing more comes", {
  skip: /GNU/.test(spawnSync("tail", ["--version"], { encoding: "utf8" }).stdout ?? "")
    ? false
    : "this is not GNU's tail",
}, async () => {
  const line = { at: "t", source: "stdout", line: "word" };
  for (const [args, sent] of [
    [["events", "-f"], { id: "1-0", ...EVENT }],
    [["logs", "-f", "a"], line],
  ] as const) {
    await using api = await CannedApi.start((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`id: 1-0\nevent: x\ndata: ${JSON.stringify(sent)}\n\n`);
    });
    const pipe = `"$0" "$@"; echo "ended with $?" >&2`;
    const child = spawn("sh", ["-c", `{ ${pipe}; } | head -n 1`, process.execPath, STITCH, ...args], {
      env: bareEnv(on(api)),
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 20_000,
    });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    assert.match(stdout, /word|1-0/);
    assert.equal(stderr, "ended with 0\n");
  }
});

test("--help and --version exit with 0", async () => {
  for (const args of [["--help"], ["run", "--help"], ["plan", "--help"], ["--version"]]) {
    const ended = await runStitch(args, {});
    assert.deepEqual([ended.code, ended.stderr], [0, ""], args.join(" "));
  }
});

test("groups lists all groups with their counts; with a name it shows one group", async () => {
  const group = {
    group: "shop.orders",
    versions: ["1", "2"],
    stitches: { byState: { running: 3, stopped: 1, failed: 0 }, byVersion: { 1: 1, 2: 3 } },
  };
  const list = { items: [group], nextCursor: null, asOf: "2026-01-01T00:00:00.000Z" };
  await using api = await CannedApi.start(({ url }, response) =>
    sendJson(response, 200, url.startsWith("/v1/groups?") ? list : group),
  );
  const all = await runStitch(["groups"], on(api));
  assert.equal(all.code, 0, all.stderr);
  assert.match(all.stdout, /GROUP +STITCHES +VERSIONS +STATES\nshop\.orders +4 +1: 1, 2: 3 +running: 3, stopped: 1\n/);
  const one = await runStitch(["groups", "shop.orders", "--json"], on(api));
  assert.deepEqual([one.code, JSON.parse(one.stdout)], [0, group]);
  assert.equal(api.asked.at(-1)?.url, "/v1/groups/shop.orders");
});

test("forget takes a node out of the cluster; a refusal is shown", async () => {
  await using api = await CannedApi.start((request, response) => {
    if (request.url === "/v1/nodes/n1") response.writeHead(204).end();
    else sendJson(response, 409, problem(409, "node_alive"));
  });
  const gone = await runStitch(["forget", "n1", "--yes"], on(api));
  assert.deepEqual([gone.code, gone.stdout, gone.stderr], [0, "", ""]);
  const refused = await runStitch(["forget", "n2"], on(api));
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /node_alive/);
  assert.deepEqual(
    api.asked.map(({ method, url }) => `${method} ${url}`),
    ["DELETE /v1/nodes/n1", "DELETE /v1/nodes/n2"],
  );
});

test("adopt prints the stitches that are assigned from now on, and what to do about the others", async () => {
  const answers = [
    [{ adopted: ["n1:a", "n1:b"], unknown: ["n1:c"] }, "n1:a\nn1:b\n", /^n1:c stays unknown: .*create it anew\.\n$/],
    [{ adopted: [], unknown: [] }, "", /^Nothing to adopt: every stitch of n1 is assigned\.\n$/],
    [{ adopted: [], unknown: ["n1:c"] }, "", /^n1:c stays unknown/],
  ] as const;
  for (const [answer, stdout, stderr] of answers) {
    const body = { node: "n1", ...answer };
    await using api = await CannedApi.start((_, response) => sendJson(response, 200, body));
    const ended = await runStitch(["adopt", "n1"], on(api));
    assert.deepEqual([ended.code, ended.stdout], [0, stdout], ended.stderr);
    assert.match(ended.stderr, stderr);
    assert.deepEqual(
      api.asked.map(({ method, url }) => `${method} ${url}`),
      ["POST /v1/nodes/n1/adopt"],
    );
    const asJson = await runStitch(["adopt", "n1", "--yes", "--json"], on(api));
    assert.deepEqual(JSON.parse(asJson.stdout), body);
  }
});
