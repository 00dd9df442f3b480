import { join } from "node:path";
import { build } from "esbuild";

/** Modules that are written for CommonJS ask for what is built in by `require`. */
const REQUIRE =
  'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';

/**
 * Puts the command line into one file, with all that it needs before a command asks for more: its tests start it hundreds of
 * times, and to load it from its sources takes twice as long. @returns that file.
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
