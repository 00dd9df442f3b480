import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { takeHome } from "../../../src/cli/up/home.ts";
import { steps } from "../../../src/cli/up/steps.ts";
import { UsageError } from "../../../src/cli/terminal/usage-error.ts";

test("stitch up refuses a folder that it cannot use, names it and says what to do", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-home-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, ".crossstitch");
  writeFileSync(file, "");
  for (const home of [file, join(file, "below")])
    await assert.rejects(
      takeHome(
        home,
        steps(() => undefined),
      ),
      (error) => {
        assert.ok(error instanceof UsageError);
        assert.ok(
          error.message.startsWith(`${home}, where stitch up keeps its cluster, cannot be used (E`),
          error.message,
        );
        assert.match(error.message, /another folder$/);
        return true;
      },
    );
});
