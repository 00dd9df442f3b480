// Tests that only compute. They run in one process, which saves each file the start of Node and of its imports. So no test may
// change what another one sees. test/unit/pure-tests.test.ts checks that for the folders.
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { importsOf, resolved } from "./check-imports.ts";

const PURE_FOLDERS: readonly string[] = ["test/unit/domain", "test/unit/master", "test/unit/redis"];

/** What pure tests, and all that they import, may import beside files of this repository. */
const PACKAGES = ["node:assert/strict", "node:crypto", "node:fs", "node:path", "node:test", "fast-check", "zod"];
const IMPURE: readonly (readonly [RegExp, string])[] = [
  [/\bprocess\./, "uses the process"],
  [/\bglobalThis\b/, "uses what is global"],
  [/\bmock\b/, "replaces something for all"],
  [/\bset(Timeout|Interval|Immediate)\(/, "waits"],
  [/^import \{[^}]*\b(before|after|beforeEach|afterEach)\b[^}]*\} from "node:test"/m, "has hooks that are everybody's"],
];
/** Comments are not checked. */
const COMMENT = /^\s*(\/\/|\/?\*).*$/gm;

/** Why test files in these folders are not pure, as `file: why`; sorted by file. */
export function impurities(root: string, folders: readonly string[] = PURE_FOLDERS): string[] {
  const found: string[] = [];
  const seen = new Set(folders.flatMap((folder) => globSync(`${folder}/**/*.test.ts`, { cwd: root })));
  // The loop also visits what is added while it runs.
  for (const file of seen) {
    const source = readFileSync(join(root, file), "utf8").replaceAll(COMMENT, "");
    for (const { from } of importsOf(source)) {
      if (from.startsWith(".")) seen.add(resolved(file, from));
      else if (!PACKAGES.includes(from)) found.push(`${file}: imports ${from}`);
    }
    for (const [pattern, why] of IMPURE) if (pattern.test(source)) found.push(`${file}: ${why}`);
  }
  return found.sort();
}

const isPure = (file: string): boolean =>
  PURE_FOLDERS.some((folder) => file.split(sep).join("/").startsWith(`${folder}/`));

/**
 * Puts the pure test files among these into one file, if there are several.
 * @param files relative to `root`.
 * @param dir where the new file is written.
 * @returns the files to run instead.
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
