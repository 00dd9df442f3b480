import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const read = (name: string) => readFileSync(join(import.meta.dirname, "../..", name), "utf8");
type Lock = { packages: Record<string, { hasInstallScript?: boolean; integrity?: string }> };

test("a package runs a program when it is installed only where package.json allows it", () => {
  const { allowScripts } = JSON.parse(read("package.json")) as { allowScripts: Record<string, boolean> };
  const { packages } = JSON.parse(read("package-lock.json")) as Lock;
  const running = Object.entries(packages).filter(([, { hasInstallScript }]) => hasInstallScript === true);
  // By name: npm does not believe a version without the address it came from, which the lock leaves out. The lock's hash says
  // which version runs.
  assert.deepEqual(
    Object.keys(allowScripts).sort(),
    running.map(([path]) => path.replace(/^.*node_modules\//, "")).sort(),
  );
  for (const [path, { integrity }] of running) assert.match(integrity ?? "", /^sha512-/, path);
  assert.match(read(".npmrc"), /^strict-allow-scripts=true$/m, "npm refuses what is not allowed");
});
