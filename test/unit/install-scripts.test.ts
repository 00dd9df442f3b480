import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const read = (name: string) => readFileSync(join(import.meta.dirname, "../..", name), "utf8");
type Lock = { packages: Record<string, { version?: string; hasInstallScript?: boolean }> };

test("a package runs a program when it is installed only where package.json allows its version", () => {
  const { allowScripts } = JSON.parse(read("package.json")) as { allowScripts: Record<string, boolean> };
  const { packages } = JSON.parse(read("package-lock.json")) as Lock;
  const running = Object.entries(packages)
    .filter(([, { hasInstallScript }]) => hasInstallScript === true)
    .map(([path, { version }]) => `${path.replace(/^.*node_modules\//, "")}@${version}`);
  assert.deepEqual(Object.keys(allowScripts).sort(), running.sort());
});
