import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

const root = join(import.meta.dirname, "../..");
const WRANGLER = join(root, "node_modules/wrangler/bin/wrangler.js");
const LIMIT_MS = 60_000;

type EdgeBundle = {
  readonly bytes: number;
  readonly gzippedBytes: number;
  readonly text: string;
  /** What wrangler has printed. */
  readonly output: string;
};

/** Builds the edge worker as `wrangler deploy` does, and deploys nothing. @param env more environment variables for the build. */
export async function bundleEdge(env: Readonly<Record<string, string>> = {}): Promise<EdgeBundle> {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-edge-bundle-"));
  try {
    const out = join(dir, "out");
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      [WRANGLER, "deploy", "--dry-run", "--outdir", out],
      { cwd: root, timeout: LIMIT_MS, env: { PATH: process.env["PATH"], ...wranglerAtHome(dir), ...env } },
    );
    const scripts = (await readdir(out)).filter((name) => /\.(m?js|wasm|bin|txt)$/.test(name));
    const contents = await Promise.all(scripts.map((name) => readFile(join(out, name))));
    const whole = Buffer.concat(contents);
    const gzippedBytes = contents.reduce((sum, content) => sum + gzipSync(content).length, 0);
    return { bytes: whole.length, gzippedBytes, text: whole.toString(), output: stdout + stderr };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Wrangler writes its settings and logs to this folder, asks nobody about updates, and reports nothing. */
function wranglerAtHome(dir: string): Record<string, string> {
  return {
    HOME: dir,
    XDG_CONFIG_HOME: dir,
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_LOG_PATH: join(dir, "logs"),
    WRANGLER_HIDE_BANNER: "true",
    CI: "true",
    NO_COLOR: "1",
  };
}
