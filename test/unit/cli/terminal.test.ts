// What commands ask and show on a terminal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CannedApi, job, sendJson } from "./canned-api.ts";
import { hasTerminals, onTerminal } from "./terminal.ts";

const skip = hasTerminals ? false : "there is no util-linux script on the PATH";
const GROUP = {
  group: "shop.orders",
  versions: ["1"],
  stitches: { byState: { running: 11, stopped: 1, failed: 0 }, byVersion: { 1: 12 } },
};
const STAYS = { code: "data_stays", message: "its data folder stays behind", stitch: "n1:orders-1" };
const PLAN = { feasible: true, tasks: [], placements: [], refusals: [], warnings: [STAYS], planToken: "t", asOf: "" };

const answers = () =>
  CannedApi.start(({ url, body }, response) => {
    const isDryRun = (body as { dryRun?: true } | null)?.dryRun === true;
    if (url.startsWith("/v1/groups/")) sendJson(response, 200, GROUP);
    else if (url.startsWith("/v1/nodes/")) sendJson(response, 200, { id: "n1", stitchCount: 3 });
    else sendJson(response, 200, isDryRun ? PLAN : job("succeeded"));
  });
const commandsSent = (api: CannedApi) =>
  api.asked
    .filter(({ method }) => method === "POST")
    .map(({ body }) => body as { command: string; dryRun?: true })
    .filter(({ dryRun }) => dryRun !== true)
    .map(({ command }) => command);

test("a confirmation shows the number of stitches, and y carries the command out", { skip }, async () => {
  const cases = [
    [["stop", "shop.orders"], "Stop 12 stitches of shop.orders?", "group.stop"],
    [["rm", "shop.orders"], "Stop and remove 12 stitches of shop.orders?", "group.remove"],
    [["drain", "n1"], "Move 3 stitches away from n1, and stop what cannot be moved?", "node.drain"],
  ] as const;
  for (const [args, question, command] of cases) {
    await using api = await answers();
    const { code, screen } = await onTerminal(args, { STITCH_URL: api.url }, { asked: "[y/N]", press: "y\r" });
    assert.equal(code, 0, screen);
    assert.ok(screen.includes(question), screen);
    assert.deepEqual(commandsSent(api), [command]);
  }
});

test("drain shows its warnings before it asks for confirmation", { skip }, async () => {
  await using api = await answers();
  const { screen } = await onTerminal(["drain", "n1"], { STITCH_URL: api.url }, { asked: "[y/N]", press: "n\r" });
  assert.match(screen, /^warning: data_stays n1:orders-1: its data folder stays behind\nMove 3 stitches/);
});

test("n, Enter, Escape, Ctrl-C and Ctrl-D send no command, and the screen never shows Yes", { skip }, async () => {
  const cases = [
    ["n\r", 1],
    ["\r", 1],
    ["\u001b", 130],
    ["\u0003", 130],
    ["\u0004", 130],
  ] as const;
  for (const [press, expected] of cases) {
    await using api = await answers();
    const ended = await onTerminal(["stop", "shop.orders"], { STITCH_URL: api.url }, { asked: "[y/N]", press });
    assert.equal(ended.code, expected, `${JSON.stringify(press)}: ${ended.screen}`);
    assert.match(ended.screen, /Nothing was done\.\n/);
    assert.doesNotMatch(ended.screen, /yes/i);
    assert.deepEqual(commandsSent(api), []);
  }
});

test("the table of jobs fits 80 columns: it shows ages, not dates, and the whole target", { skip }, async () => {
  const items = [
    job("succeeded", {
      command: "group.restart",
      target: "shop.orders.1",
      counts: { ...job("succeeded").counts, total: 12 },
    }),
    job("cancelled", { command: "stitch.create", target: "shop.orders.2" }),
  ];
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 200, { items, nextCursor: null, asOf: "2026-11-23T09:05:00.000Z" }),
  );
  const { screen } = await onTerminal(["jobs"], { STITCH_URL: api.url });
  assert.match(screen, /^JOB +STATUS +STEPS +AGE +COMMAND +TARGET\n/);
  assert.match(screen, /^ja+ +succeeded +1\/12 +5m +group\.restart +shop\.orders\.1$/m);
  assert.doesNotMatch(screen, /2026|…/);
});

test("the table of dead letters on 80 columns keeps the reason and drops data first", { skip }, async () => {
  const letter = {
    id: "n1.1795442400000-0",
    messageId: "m",
    node: "n1",
    stitch: "n1:orders-1",
    from: "api",
    channel: "prices",
    data: "d".repeat(100),
    code: "no_recipient",
    reason: "n1 has no such stitch",
    tries: 0,
    at: "2026-11-23T07:00:00.000Z",
  };
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 200, { items: [letter], nextCursor: null, asOf: "2026-11-23T09:05:00.000Z" }),
  );
  const { screen } = await onTerminal(["dead-letters"], { STITCH_URL: api.url });
  assert.match(screen, /^n1\.1795442400000-0 +n1:orders-1 +2h +no_recipient: n1 has no such stitch/m);
  for (const line of screen.split("\n")) assert.ok(line.length <= 80, line);
});
