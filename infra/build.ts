// What `npm run build` runs: makes dist/, which the package consists of beside the plain JavaScript in src. The libraries are compiled
// file by file, with their declarations. The command line is bundled: it starts in a third of the time, and each command loads its part.
import { spawnSync } from "node:child_process";
import { cpSync, globSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");
/** What is imported or started by its path, and is JavaScript already. */
const AS_IT_IS = ["src/*.mjs", "test/support/{modules,stitches}/mail.mjs"];
/** Those that are loaded with every command. The others stay in node_modules: a part loads them once, and runs for long. */
const BUNDLED = ["commander", "zod"];

/** CommonJS modules load built-in modules with `require`. */
export const REQUIRE =
  'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);';

/** Bundles the command line into `folder`: main.js, and what main.js loads later. */
export async function bundleCli(folder: string): Promise<void> {
  await build({
    entryPoints: [join(root, "src/cli/main.ts"), join(root, "workers/node/processes/watchdog-main.ts")],
    entryNames: "[name]",
    bundle: true,
    platform: "node",
    target: "node24",
    format: "esm",
    splitting: true,
    // Half as much to read. Names stay, and lines stay short: a stack trace still says where.
    minifyWhitespace: true,
    lineLimit: 160,
    banner: { js: REQUIRE },
    outdir: folder,
    logLevel: "error",
    plugins: [
      {
        name: "leave the other packages where they are",
        setup: (building) => {
          building.onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
            kind === "entry-point" || BUNDLED.some((name) => path === name || path.startsWith(`${name}/`))
              ? null
              : { path, external: true },
          );
        },
      },
    ],
  });
}

if (import.meta.main) {
  rmSync(join(root, "dist"), { recursive: true, force: true });
  const tsc = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", "tsconfig.build.json"], {
    cwd: root,
    stdio: "inherit",
  });
  if (tsc.status !== 0) process.exit(tsc.status ?? 1);
  for (const file of AS_IT_IS.flatMap((pattern) => globSync(pattern, { cwd: root })))
    cpSync(join(root, file), join(root, "dist", file));
  await bundleCli(join(root, "dist/cli"));
}
