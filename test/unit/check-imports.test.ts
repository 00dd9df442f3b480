import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { checkImports } from "../support/check-imports.ts";

/** @returns the violations in a folder with these files, as `file:line message`. */
async function violations(files: Readonly<Record<string, string>>): Promise<string[]> {
  const root = await mkdtemp(join(tmpdir(), "check-imports-"));
  try {
    for (const [file, source] of Object.entries(files)) {
      await mkdir(dirname(join(root, file)), { recursive: true });
      await writeFile(join(root, file), source);
    }
    return checkImports(root).map(({ file, line, message }) => `${file}:${line} ${message}`);
  } finally {
    await rm(root, { recursive: true });
  }
}

test("accepts imports that point down", async () => {
  const found = await violations({
    "src/domain/ids.ts": `import * as z from "zod";\n`,
    "src/redis/keys.ts": `import { Redis } from "ioredis";\nimport { id } from "../domain/ids.ts";\n`,
    "src/queue/q.ts": `import { keys } from "../redis/keys.ts";\n`,
    "src/master/plan.ts": `import {\n  a,\n  b,\n} from "../queue/q.ts";\n`,
    "src/api/app.ts": `import { loadConfig } from "../config.ts";\nimport { plan } from "../master/plan.ts";\n`,
    "src/config.ts": `export { id } from "./domain/ids.ts";\n`,
    "src/cli/up.ts": `const a = await import("../../workers/node/main.ts");\n`,
    "workers/node/main.ts": `import "../../src/config.ts";\n`,
    "test/x.test.ts": `import { plan } from "../src/master/plan.ts";\n`,
  });
  assert.deepEqual(found, []);
});

const WRONG: readonly [string, string, string, RegExp][] = [
  ["domain takes no package but zod", "src/domain/a.ts", `import "node:fs";`, /:1 domain may not import node:fs$/],
  [
    "domain imports nothing above",
    "src/domain/a.ts",
    `import { x } from "../redis/b.ts";`,
    /domain may not import redis/,
  ],
  ["domain knows no answer", "src/domain/a.ts", `import type { A } from "../contract/b.ts";`, /domain may not import/],
  ["contract imports domain only", "src/contract/a.ts", `import "../redis/b.ts";`, /contract may not import redis/],
  ["redis does not import queue", "src/redis/a.ts", `export * from "../queue/b.ts";`, /redis may not import queue/],
  [
    "master has no settings",
    "src/master/a.ts",
    `\nimport { c } from "../config.ts";`,
    /:2 master may not import config/,
  ],
  [
    "client imports domain only",
    "src/client/a.ts",
    `import type { A } from "../api/b.ts";`,
    /client may not import api/,
  ],
  [
    "client loads nothing of the domain",
    "src/client/a.ts",
    `import { type A } from "../domain/b.ts";`,
    /:1 client may import domain as types only/,
  ],
  ["client loads no zod", "src/client/a.ts", `import * as z from "zod";`, /client may import zod as types only/],
  ["client takes no package", "src/client/a.ts", `import { Hono } from "hono";`, /client may not import hono$/],
  [
    "a folder of the domain imports none above it",
    "src/domain/stitch/a.ts",
    `import { x } from "../job/b.ts";`,
    /src\/domain\/stitch may not import src\/domain\/job$/,
  ],
  [
    "a folder of redis imports none beside it",
    "src/redis/inbox/a.ts",
    `import { x } from "../job/b.ts";`,
    /src\/redis\/inbox may not import src\/redis\/job$/,
  ],
  [
    "a part of the Master knows nothing of those who use it",
    "src/master/state/a.ts",
    `import { x } from "../default-master.ts";`,
    /src\/master\/state may not import src\/master\/$/,
  ],
  [
    "the stitches of a node know nothing of its tasks",
    "workers/node/stitches/a.ts",
    `import { x } from "../tasks/b.ts";`,
    /workers\/node\/stitches may not import workers\/node\/tasks$/,
  ],
  [
    "what is shown on the terminal knows no command",
    "src/cli/terminal/a.ts",
    `import { x } from "../commands/b.ts";`,
    /src\/cli\/terminal may not import src\/cli\/commands$/,
  ],
  [
    "a folder must be listed",
    "src/domain/misc/a.ts",
    `import { x } from "../errors.ts";`,
    /src\/domain\/misc is none of its folders/,
  ],
  ["api does not import an entry", "src/api/a.ts", `import { x } from "./node.ts";`, /api may not import entry/],
  [
    "an import expression counts",
    "src/queue/a.ts",
    `const b = await import("../master/b.ts");`,
    /queue may not import master/,
  ],
  [
    "an import over lines counts",
    "src/redis/a.ts",
    `import {\n  x,\n} from "../api/b.ts";`,
    /:1 redis may not import api/,
  ],
  ["an import type counts", "src/redis/a.ts", `type A = import("../api/b.ts").A;`, /redis may not import api/],
  ["tests are nobody's", "src/cli/a.ts", `import { x } from "../../test/support/b.ts";`, /belongs to no layer/],
  ["a file without a layer", "src/helpers/a.ts", ``, /src\/helpers\/a\.ts:1 belongs to no layer/],
  ["endings are written", "test/a.test.ts", `import { x } from "../src/domain/ids";`, /has no ending/],
];
for (const [name, file, source, expected] of WRONG) {
  test(name, async () => {
    const found = await violations({ [file]: source });
    assert.equal(found.length, 1, found.join("\n"));
    assert.match(found[0] ?? "", expected);
  });
}

test("reports an import cycle once, with its path", async () => {
  const found = await violations({
    "src/domain/a.ts": `import "./b.ts";\n`,
    "src/domain/b.ts": `import "./c.ts";\n`,
    "src/domain/c.ts": `\nimport type { A } from "./a.ts";\n`,
  });
  assert.equal(found.length, 1, found.join("\n"));
  assert.match(found[0] ?? "", /:\d import cycle: src\/domain\/\w\.ts → .* → .* → src\/domain\/\w\.ts$/);
});

test("ignores imports in comments and strings", async () => {
  const found = await violations({
    "src/domain/a.ts": `// import "../redis/a.ts"\n/**\n * import("../redis/a.ts")\n */\nconst text = 'from "../redis/a.ts"';\n`,
  });
  assert.deepEqual(found, []);
});
