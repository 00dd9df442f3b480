import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkResource, undocumentedIn } from "../support/checked-fetch.ts";

const root = join(import.meta.dirname, "../..");
const JSON_TYPE = "application/json";
const PROBLEM_TYPE = "application/problem+json";
const probe = { status: 200, type: JSON_TYPE, text: '{"status":"alive"}' };
const problem = JSON.stringify({
  type: "urn:crossstitch:error:not_found",
  title: "Not found",
  status: 404,
  detail: "There is none.",
  code: "not_found",
  requestId: "r",
  retryable: false,
});

test("accepts an answer that is documented", () => {
  assert.equal(undocumentedIn("GET", "/livez", probe), null);
  assert.equal(undocumentedIn("HEAD", "/livez", { ...probe, text: null }), null);
  assert.equal(undocumentedIn("DELETE", "/v1/nodes/n1", { status: 204, type: null, text: null }), null);
  assert.equal(undocumentedIn("GET", "/v1/nodes/n1", { status: 404, type: PROBLEM_TYPE, text: problem }), null);
  assert.equal(undocumentedIn("GET", "/v1/events", { status: 200, type: "text/event-stream", text: null }), null);
  assert.equal(undocumentedIn("GET", "/nope", { status: 404, type: PROBLEM_TYPE, text: problem }), null);
});

test("reports an error code that is not documented", () => {
  const text = problem.replaceAll("not_found", "no_recipient");
  const answer = { status: 404, type: PROBLEM_TYPE, text };
  assert.match(undocumentedIn("GET", "/v1/nodes/n1", answer) ?? "", /no_recipient, which is none of get/);
});

for (const [what, method, path, differs, expected] of [
  ["a status that is not documented", "GET", "/livez", { status: 202 }, /is no status of get \/livez/],
  ["a type that is not documented", "GET", "/livez", { type: "text/html" }, /comes as text\/html/],
  ["a body where none is documented", "DELETE", "/v1/nodes/n1", { status: 204 }, /has no body/],
  ["a body that is not JSON", "GET", "/livez", { text: "{" }, /is not JSON/],
  ["a field that is missing", "GET", "/livez", { text: "{}" }, /required property 'status'/],
  ["a value that is not documented", "GET", "/livez", { text: '{"status":"dead"}' }, /allowed values/],
  ["a field that is not documented", "GET", "/livez", { text: '{"status":"alive","more":1}' }, /additional/],
  ["an answer of no route that is no refusal", "GET", "/nope", {}, /of no operation/],
  ["an answer to a method that is not taken", "PUT", "/livez", {}, /of no operation/],
] as const) {
  test(`reports ${what}`, () => {
    assert.match(undocumentedIn(method, path, { ...probe, ...differs }) ?? "", expected);
  });
}

test("reports a time that is not a date-time", () => {
  const line = { at: "today", source: "stdout", line: "" };
  assert.throws(() => checkResource("LogLine", line), /date-time/);
  checkResource("LogLine", { ...line, at: "2026-11-23T09:00:00.000Z" });
});

test("every API request in integration and edge tests has its answer checked", () => {
  const files = globSync("test/{integration,edge}/*.ts", { cwd: root });
  assert.ok(files.length > 0);
  const unchecked = files.filter((file) => {
    const source = readFileSync(join(root, file), "utf8");
    const client = /createClient\(\{(?![^}]*fetch: checkedFetch)/.test(source);
    const workerd = /edge\.fetch\(/.test(source) && !source.includes("checkAnswer(");
    return client || workerd || /(?<![\w.])fetch\(/.test(source);
  });
  assert.deepEqual(unchecked, []);
});
