// The package as people get it: packed, installed with npm in an empty folder, and run by a plain Node.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { until } from "../support/cluster.ts";
import { saveDocsContractTest, saveDocsMaster } from "../support/docs-master.ts";
import { processesOf } from "../support/process-list.ts";
import { quietPort } from "../support/quiet-port.ts";
import { Script, shellEnv } from "../support/script.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "cs-package-"));
const installed = join(folder, "node_modules/crossstitch");

const INSTALL_LIMIT_MS = 5 * 60_000;
const START_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 40_000;
const CONTRACT_LIMIT_MS = 120_000;
/** The promise: `stitch nodes` takes at most this many times the CPU time of a Node that does nothing. */
const MOST_CPU = 6;
const MEASURED = 15;

/** A shell that has Node 24 or newer, and nothing of this repository. */
const env = (more: Readonly<Record<string, string>> = {}): Record<string, string> => {
  const shell = shellEnv(more);
  return { ...shell, PATH: [dirname(process.execPath), shell["PATH"]].join(delimiter) };
};
const inFolder = (file: string, args: readonly string[], more: Readonly<Record<string, string>> = {}) =>
  run(file, args, { cwd: folder, env: env(more), maxBuffer: 64 * 1024 * 1024 });

describe("the package", () => {
  before(async () => {
    const packed = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: root, env: env() });
    const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("["))) as [{ filename: string }];
    writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
    const flags = ["--no-audit", "--no-fund", "--prefer-offline"];
    await run("npm", ["install", ...flags, `./${filename}`], { cwd: folder, env: env(), timeout: INSTALL_LIMIT_MS });
  });
  after(async () => {
    await until("no process is left", async () => (await processesOf(folder)).length === 0);
    rmSync(folder, { recursive: true, force: true });
  });

  it("holds what it needs, and no tests", async () => {
    const { stdout } = await inFolder("find", [installed, "-type", "f"]);
    const files = stdout.trim().split("\n");
    assert.ok(files.length > 100);
    for (const file of files) {
      assert.doesNotMatch(file, /(?<!\.d)\.ts$/, "Node strips no types inside node_modules");
      assert.doesNotMatch(file, /\.test\./);
    }
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    assert.equal((await inFolder("npx", ["stitch", "--version"])).stdout.trim(), version);
  });

  it("runs a cluster with `npx crossstitch up`; `stitch nodes` takes little CPU time", async (t) => {
    const port = await quietPort();
    const more = { STITCH_PORT: String(port), STITCH_URL: `http://127.0.0.1:${port}` };
    const up = new Script("npx", ["crossstitch", "up"], folder, env(more));
    t.after(() => up.kill());
    await up.printed(/What happens from here on/, START_LIMIT_MS);
    for (const sample of ["n1:ann", "n2:counter-2", "n3:disk"])
      assert.match(up.output, new RegExp(`^${sample} .* running +running`, "m"));
    const { stdout } = await inFolder("npx", ["stitch", "nodes"], more);
    for (const node of ["n1", "n2", "n3"]) assert.match(stdout, new RegExp(`^${node} +alive`, "m"));
    // Each part is a process of its own, of the package.
    const { stdout: parts } = await run("ps", ["-eo", "args="]);
    for (const part of ["api", "master", "node"])
      assert.ok(
        parts.split("\n").some((line) => line.includes(folder) && line.endsWith(` ${part}`)),
        `${part}: ${parts}`,
      );

    const nothing: number[] = [];
    const nodes: number[] = [];
    for (let round = 0; round < MEASURED; round++) {
      nothing.push(await cpuMs([process.execPath, "-e", "0"], more));
      nodes.push(await cpuMs([process.execPath, join(installed, "src/cli/stitch.mjs"), "nodes"], more));
    }
    // The least of many: what else the machine does can only add to it.
    const [least, ofNodes] = [Math.min(...nothing), Math.min(...nodes)];
    t.diagnostic(`stitch nodes ${ofNodes} ms of CPU time, a Node that does nothing ${least} ms`);
    assert.ok(ofNodes <= MOST_CPU * least, `${ofNodes} ms, where a Node that does nothing takes ${least} ms`);

    up.interrupt();
    await up.end(STOP_LIMIT_MS);
  });

  it("offers typed entries to programs", async () => {
    copyFileSync(join(root, "test/support/package-user.txt"), join(folder, "uses.ts"));
    const options = { strict: true, module: "nodenext", target: "es2024", noEmit: true, types: ["node"] };
    const typeRoots = [join(root, "node_modules/@types")];
    const compilerOptions = { ...options, lib: ["es2024", "dom", "dom.iterable"], skipLibCheck: true, typeRoots };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["uses.ts"] }));
    await inFolder(join(root, "node_modules/.bin/tsc"), ["-p", "."]);
    const { stdout } = await inFolder(process.execPath, ["uses.ts"], { FREE_PORT: String(await quietPort()) });
    assert.deepEqual(stdout.trim().split("\n"), ["refused: true", "fetch: 403 forbidden", "lambda: 400"]);
  });

  it("lets an author hold their Master to the contract, and says where it breaks it", async () => {
    const own = join(folder, "own");
    mkdirSync(own);
    saveDocsMaster(own, "my-master.js");
    saveDocsContractTest(own);
    const runWith = (window: string) =>
      run(process.execPath, ["--test", "contract.test.js"], {
        cwd: own,
        env: env({ WINDOW: window }),
        timeout: CONTRACT_LIMIT_MS,
      }).then(
        ({ stdout }) => ({ code: 0, output: stdout }),
        (error: { code: number; stdout: string }) => ({ code: error.code, output: error.stdout }),
      );
    const kept = await runWith("0-24");
    assert.equal(kept.code, 0, kept.output);
    assert.match(kept.output, /the same command with the same key is one job/);
    const broken = await runWith("24-24");
    assert.equal(broken.code, 1);
    assert.match(broken.output, /Commands are taken from 24:00 to 24:00 UTC/);
  });
});

/** The CPU time of a process, user and system, in milliseconds. */
async function cpuMs(command: readonly string[], more: Readonly<Record<string, string>>): Promise<number> {
  const script = 'TIMEFORMAT="%3U %3S"; time "$@" >/dev/null';
  const { stderr } = await inFolder("bash", ["-c", script, "bash", ...command], more);
  return stderr
    .trim()
    .split(" ")
    .reduce((sum, seconds) => sum + Math.round(Number(seconds) * 1000), 0);
}
