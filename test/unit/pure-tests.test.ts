import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { bundlePure, impurities } from "../support/pure-tests.ts";

const ROOT = join(import.meta.dirname, "../..");

function folder(t: TestContext, files: Readonly<Record<string, string>> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), "pure-tests-"));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [file, source] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    writeFileSync(join(dir, file), source);
  }
  return dir;
}

test("tests that share a process start none, do not wait and change nothing that other tests see", () => {
  assert.deepEqual(impurities(ROOT), []);
});

for (const [what, source, why] of [
  ["starts processes", `import { spawn } from "node:child_process";`, "imports node:child_process"],
  ["reaches Redis", `import { Redis } from "ioredis";`, "imports ioredis"],
  ["changes the environment", `process.env["A"] = "1";`, "uses the process"],
  ["replaces timers", `import { mock, test } from "node:test";`, "replaces something for all"],
  ["has a hook", `import {\n  after,\n  test,\n} from "node:test";`, "has hooks that are everybody's"],
  ["waits", `await new Promise((done) => setTimeout(done, 5));`, "waits"],
] as const) {
  test(`a test that ${what} is not pure; a test that imports such code is not, either`, (t) => {
    const dir = folder(t, {
      "pure/direct.test.ts": `${source}\n`,
      "pure/by-way.test.ts": `import "../src/way.ts";\n`,
      "src/way.ts": `// process.env is fine in a comment\nimport "./end.ts";\n`,
      "src/end.ts": `${source}\n`,
      "pure/reads.test.ts": `import { readFileSync } from "node:fs";\nimport { test } from "node:test";\n`,
    });
    assert.deepEqual(impurities(dir, ["pure"]), [`pure/direct.test.ts: ${why}`, `src/end.ts: ${why}`]);
  });
}

test("combines pure files into one and keeps the others; a single pure file stays, too", (t) => {
  const dir = folder(t);
  const files = [
    "test/unit/api/a.test.ts",
    "test/unit/domain/b.test.ts",
    "test/unit/redis/c.test.ts",
    "test/unit/domains/d.test.ts",
  ];
  const [bundle = "", ...rest] = bundlePure(files, "/root", dir);
  assert.deepEqual(rest, ["test/unit/api/a.test.ts", "test/unit/domains/d.test.ts"]);
  assert.equal(
    readFileSync(bundle, "utf8"),
    `import "file:///root/test/unit/domain/b.test.ts";\nimport "file:///root/test/unit/redis/c.test.ts";\n`,
  );
  const alone = ["test/unit/domain/b.test.ts", "test/fault/e.test.ts"];
  assert.deepEqual(bundlePure(alone, "/root", dir), alone);
});
