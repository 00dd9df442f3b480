import { writeFileSync } from "node:fs";
import { join, sep } from "node:path";
import { pathToFileURL } from "node:url";

/**
 * What is tested here computes, and does nothing else: no process, no file that is written, no environment, no timers that
 * are replaced. So these tests run in one process, which costs a start of Node and of what they import once. A test holds
 * the folders to it (test/unit/pure-tests.test.ts).
 */
export const PURE_FOLDERS: readonly string[] = ["test/unit/domain", "test/unit/master", "test/unit/redis"];

const isPure = (file: string): boolean =>
  PURE_FOLDERS.some((folder) => file.split(sep).join("/").startsWith(`${folder}/`));

/**
 * Puts the pure ones among these files into one, where there are several.
 * @param files from `root`.
 * @param dir where that one is written.
 * @returns what to run instead.
 */
export function bundlePure(files: readonly string[], root: string, dir: string): string[] {
  const pure = files.filter(isPure);
  if (pure.length < 2) return [...files];
  const bundle = join(dir, "pure.test.mjs");
  writeFileSync(
    bundle,
    pure.map((file) => `import ${JSON.stringify(pathToFileURL(join(root, file)).href)};\n`).join(""),
  );
  return [bundle, ...files.filter((file) => !isPure(file))];
}
