import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import * as z from "zod";
import { COMMANDS } from "../../../src/domain/commands/command.ts";
import { COMMAND_NAMES, isCommandName } from "../../../src/domain/commands/command-names.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import { leaderRequest, refusalOf, refusalText } from "../../../src/master/leader/request.ts";

const golden = z.array(z.looseObject({ asked: z.string(), body: z.unknown() }));
const GOLDEN = join(import.meta.dirname, "../../golden/http.json");
const given = golden
  .parse(JSON.parse(readFileSync(GOLDEN, "utf8")))
  .filter(({ asked }) => asked.startsWith("POST /v1/commands"))
  .map(({ body }) => z.looseObject({ command: z.string() }).parse(body));

test("the leader gets every command as the API has read it", () => {
  const names = new Set<string>();
  for (const body of given) {
    if (!isCommandName(body.command)) continue;
    const read = COMMANDS[body.command].schema.safeParse(body);
    if (!read.success) continue;
    names.add(body.command);
    const request = {
      job: { id: "0".repeat(26), bodyHash: "", repeatable: false },
      nonce: "n",
      request: {
        kind: "submit",
        submission: { command: read.data, idempotencyKey: null, scope: "", by: null, waitMs: 0 },
      },
    };
    assert.deepEqual(leaderRequest.parse(JSON.parse(JSON.stringify(request))), request);
  }
  assert.deepEqual([...names].sort(), [...COMMAND_NAMES].sort());
});

test("an entry that is no request is refused", () => {
  const job = { id: "j", bodyHash: "", repeatable: true };
  for (const request of [
    {
      kind: "submit",
      submission: { command: { command: "node.dance" }, idempotencyKey: null, scope: "", by: null, waitMs: 0 },
    },
    {
      kind: "submit",
      submission: { command: { command: "node.ping" }, idempotencyKey: null, scope: "", by: null, waitMs: 0 },
    },
    { kind: "retry" },
    { kind: "forget", of: "j" },
  ])
    assert.equal(leaderRequest.safeParse({ job, nonce: "n", request }).success, false, JSON.stringify(request));
});

test("a refusal comes to the client as the leader has made it", () => {
  const refused = new RequestError("group_busy", "Another job works on this.", { jobId: "j1" });
  const { code, message, facts } = refusalOf(refusalText(refused));
  assert.deepEqual([code, message, facts], ["group_busy", "Another job works on this.", { jobId: "j1" }]);
});
