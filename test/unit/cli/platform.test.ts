import assert from "node:assert/strict";
import { test } from "node:test";
import { refuseOtherPlatform } from "../../../src/cli/processes/platform.ts";

test("nodes run on Linux and macOS; elsewhere one line says so", () => {
  for (const platform of ["linux", "darwin"] as const) refuseOtherPlatform("stitch node", platform);
  const message = /^stitch node runs on Linux and macOS, and this is win32\. [^\n]*$/;
  assert.throws(() => refuseOtherPlatform("stitch node", "win32"), { message });
});
