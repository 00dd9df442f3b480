import assert from "node:assert/strict";
import { test } from "node:test";
import { CannedApi, sendJson } from "./canned-api.ts";
import { runStitch } from "./run-stitch.ts";

const on = (api: CannedApi) => ({ STITCH_URL: api.url });
const seen = (id: string, lastSeenAt: string) => ({ id, version: "1.2.3", lastSeenAt });
const cluster = (more: object) => ({
  name: "c",
  asOf: "2026-11-23T09:00:10.000Z",
  nodes: { alive: 0, suspect: 0, dead: 0, left: 0 },
  stitches: {},
  openJobs: 0,
  masters: [seen("m1", "2026-11-23T09:00:09.000Z"), seen("m2", "2026-11-23T09:00:08.000Z")],
  mode: "leaderless",
  preferred: null,
  leader: null,
  election: null,
  lease: null,
  frozen: false,
  version: "1.2.3",
  ...more,
});

for (const { what, more, decides, mode } of [
  { what: "leaderless", more: {}, decides: ["yes", "yes"], mode: "Mode: leaderless." },
  {
    what: "preferred, and m2 is alive",
    more: { mode: "preferred", preferred: "m2" },
    decides: ["no", "yes"],
    mode: "Mode: preferred: m2.",
  },
  {
    what: "preferred, and m3 is not alive",
    more: { mode: "preferred", preferred: "m3" },
    decides: ["yes", "yes"],
    mode: "Mode: preferred: m3, which is not alive, so any Master decides.",
  },
  {
    what: "the leader",
    more: { mode: "leader", leader: "m2", election: { id: "e", epoch: 5, n: 3 }, lease: "etcd+http://a:1" },
    decides: ["no", "yes"],
    mode: "Mode: leader: m2 (election 5.3, lease in etcd+http://a:1).",
  },
  {
    what: "none at the moment",
    more: { mode: "leader", lease: "redis" },
    decides: ["no", "no"],
    mode: "Mode: leader: none at the moment, so nothing is decided (lease in redis).",
  },
])
  test(`masters lists the Masters and which of them decide: ${what}`, async () => {
    await using api = await CannedApi.start((_, response) => sendJson(response, 200, cluster(more)));
    const ended = await runStitch(["masters"], on(api));
    assert.equal(ended.code, 0, ended.stderr);
    const [head = "", ...rows] = ended.stdout.trimEnd().split("\n");
    assert.match(head, /^MASTER +VERSION +LAST SEEN +DECIDES$/);
    assert.deepEqual(
      rows.map((row) => row.trim().split(/ {2,}/)),
      [
        ["m1", "1.2.3", "1s ago", decides[0]],
        ["m2", "1.2.3", "2s ago", decides[1]],
      ],
    );
    assert.equal(ended.stderr.trim(), mode);
  });

test("masters set-mode sends the mode, and says what to do next", async () => {
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 200, { mode: "preferred", preferred: "m1", lease: null, before: "leaderless" }),
  );
  const ended = await runStitch(["masters", "set-mode", "preferred", "--preferred", "m1"], on(api));
  assert.deepEqual([ended.code, ended.stdout], [0, ""]);
  assert.match(
    ended.stderr,
    /is preferred now \(before: leaderless\)\. .* STITCH_MASTER=preferred STITCH_MASTER_PREFERRED=m1/,
  );
  const [asked] = api.asked;
  assert.deepEqual(
    [asked?.method, asked?.url, asked?.body],
    ["POST", "/v1/masters/mode", { mode: "preferred", preferred: "m1" }],
  );

  for (const words of [["preferred"], ["leaderless", "--preferred", "m1"]]) {
    const refused = await runStitch(["masters", "set-mode", ...words], on(api));
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /--preferred MASTER goes with the mode preferred/);
  }
  const led = await runStitch(["masters", "set-mode", "leader", "--lease", "etcd+http://a:1"], on(api));
  assert.match(led.stderr, /STITCH_MASTER=leader STITCH_LEADER_LEASE=etcd\+http:\/\/a:1/);
  assert.deepEqual(api.asked.at(-1)?.body, { mode: "leader", lease: "etcd+http://a:1" });
  const lost = await runStitch(["masters", "set-mode", "leaderless", "--lease", "redis"], on(api));
  assert.match(lost.stderr, /--lease PLACE goes with the mode leader/);
  const wrong = await runStitch(["masters", "set-mode", "boss"], on(api));
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /leaderless, preferred, leader, own/);
});
