import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { type TestContext, test } from "node:test";

const REPORTER = new URL("../support/reporter.ts", import.meta.url).href;

/** Runs these files as tests, one after the other. @returns the reporter's output and the exit code. */
async function run(t: TestContext, files: Readonly<Record<string, string>>): Promise<{ code: unknown; out: string }> {
  const dir = mkdtempSync(join(tmpdir(), "reporter-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const names = Object.keys(files);
  for (const name of names) writeFileSync(join(dir, name), `import { test } from "node:test";\n${files[name]}`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const options = ["--test", "--test-concurrency=1", "--test-timeout=20000", `--test-reporter=${REPORTER}`];
  const child = spawn(process.execPath, [...options, ...names], {
    cwd: dir,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [out, [code]] = await Promise.all([text(child.stdout), once(child, "close")]);
  return { code, out: out.replaceAll(/\d+\.\d s\b/g, "_ s") };
}

const PASSING = `
console.log("printed by a test that passes");
test("is fine", (t) => t.diagnostic("a figure that nobody needs"));
test("needs more than there is", { skip: "no such device" }, () => {});
`;

test("prints a line for each file that passes, the skipped tests with their reasons, and the sums", async (t) => {
  const { code, out } = await run(t, { "a.mjs": PASSING, "b.mjs": `test("is fine too", () => {});` });
  assert.equal(code, 0, out);
  assert.equal(
    out,
    `✔ a.mjs  _ s
✔ b.mjs  _ s

skipped:
﹣ a.mjs: needs more than there is: no such device

3 tests: 2 passed, 0 failed, 1 skipped; _ s
`,
  );
});

test("prints a failed test twice, with place, path, error, and its file's figures and output", async (t) => {
  const { code, out } = await run(t, {
    "fails.mjs": `
console.error("what came before");
test("outer", async (t) => {
  t.diagnostic("7 looks");
  await t.test("inner", () => { throw new Error("it is not so"); });
});`,
    "passes.mjs": PASSING,
  });
  assert.equal(code, 1, out);
  assert.match(out, /^✖ fails\.mjs {2}_ s$/m);
  assert.match(out, /^✔ passes\.mjs {2}_ s$/m);
  for (const part of [out.slice(0, out.indexOf("\nfailed:\n")), out.slice(out.indexOf("\nfailed:\n"))]) {
    assert.match(part, /^ {2}✖ fails\.mjs:6: outer › inner\n {4}Error: it is not so\n {8}at .*fails\.mjs:6/m);
    assert.match(part, /^ {2}its figures:\n {4}7 looks\n {2}its output:\n {4}what came before$/m);
  }
  assert.doesNotMatch(out, /nobody needs|that passes/);
  assert.match(out, /^4 tests: 1 passed, 2 failed, 1 skipped; _ s$/m);
});

for (const [what, source, why] of [
  ["cannot be loaded", `throw new Error("at its first line");`, /at its first line/],
  [
    "fails and ends with a code of its own",
    `test("fails", () => { process.exitCode = 3; throw new Error("it is not so"); });`,
    /it is not so/,
  ],
  ["ends with a code of its own", `test("is fine", () => { process.exitCode = 3; });`, /test failed/],
  [
    "does not end in time",
    `test("waits", { timeout: 50 }, () => new Promise((done) => setTimeout(done, 500)));`,
    /waits\n {4}test timed out after 50ms/,
  ],
] as const) {
  test(`a file that ${what} counts as failed and is named`, async (t) => {
    const { code, out } = await run(t, { "it.mjs": source });
    assert.equal(code, 1, out);
    assert.match(out, /^✖ it\.mjs {2}_ s$/m);
    for (const part of out.split("\nfailed:\n")) assert.match(part, why);
  });
}
