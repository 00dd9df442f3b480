import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const read = (name: string) => readFileSync(join(import.meta.dirname, "../..", name), "utf8");
type Lock = { packages: Record<string, { hasInstallScript?: boolean; integrity?: string }> };

test("package.json allows install scripts for exactly the packages that have one", () => {
  const { allowScripts } = JSON.parse(read("package.json")) as { allowScripts: Record<string, boolean> };
  const { packages } = JSON.parse(read("package-lock.json")) as Lock;
  const running = Object.entries(packages).filter(([, { hasInstallScript }]) => hasInstallScript === true);
  // By name: npm does not trust a version without its download address, and the lock leaves the address out. The hash in
  // the lock fixes the version that runs.
  assert.deepEqual(
    Object.keys(allowScripts).sort(),
    running.map(([path]) => path.replace(/^.*node_modules\//, "")).sort(),
  );
  for (const [path, { integrity }] of running) assert.match(integrity ?? "", /^sha512-/, path);
  assert.match(read(".npmrc"), /^strict-allow-scripts=true$/m, "npm refuses what is not allowed");
});
