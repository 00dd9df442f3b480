import { join } from "node:path";
import { build } from "esbuild";

/** CommonJS modules load built-in modules with `require`. */
const REQUIRE =
  'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';

/**
 * Bundles the command line into one file, with all that it needs before a command loads more. Its tests start it hundreds of
 * times, and loading it from its sources takes twice as long. @returns the path of that file.
 */
export async function bundleCli(root: string, dir: string): Promise<string> {
  await build({
    entryPoints: [join(root, "src/cli/main.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    splitting: true,
    banner: { js: REQUIRE },
    outdir: dir,
    logLevel: "error",
  });
  return join(dir, "main.js");
}
