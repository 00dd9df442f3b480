import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { bareEnv } from "./run-stitch.ts";

const LAUNCHER = fileURLToPath(new URL("../../../src/cli/stitch.mjs", import.meta.url));
const SIGNALS = fileURLToPath(new URL("../../../src/ending-signals.mjs", import.meta.url));
/** Makes the Node that runs the launcher look like an older one. */
const OLDER = ["--import", "data:text/javascript,Object.defineProperty(process,'versions',{value:{node:'20.1.0'}})"];

/** A package with the launcher, a main file that prints what it got, and (with `node`) its own Node. */
async function packageWith(main: string, node: boolean, under = ""): Promise<{ folder: string } & AsyncDisposable> {
  const top = await mkdtemp(join(tmpdir(), "stitch-launcher-"));
  const folder = join(top, under);
  await mkdir(join(folder, "src", "cli"), { recursive: true });
  await mkdir(join(folder, "node_modules", ".bin"), { recursive: true });
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  await copyFile(SIGNALS, join(folder, "src", "ending-signals.mjs"));
  await copyFile(LAUNCHER, join(folder, "src", "cli", "stitch.mjs"));
  await chmod(join(folder, "src", "cli", "stitch.mjs"), 0o755);
  await mkdir(join(folder, "dist", "cli"), { recursive: true });
  await writeFile(join(folder, main), MAIN_TEXT);
  if (node) await symlink(process.execPath, join(folder, "node_modules", ".bin", "node"));
  return { folder, [Symbol.asyncDispose]: () => rm(top, { recursive: true, force: true }) };
}

const SOURCE = "src/cli/main.ts";
const BUILT = "dist/cli/main.js";

const MAIN_TEXT = `
import { fileURLToPath } from "node:url";
const [word] = process.argv.slice(2);
if (word === "wait") {
  process.on("SIGTERM", () => process.exit(7));
  setInterval(() => undefined, 1000);
} else process.exitCode = 3;
console.log(process.argv.slice(2).join(" "), process.versions.node.split(".")[0], fileURLToPath(import.meta.url).split("/").at(-1));
if (word === "die") process.kill(process.pid, "SIGKILL");
`;

function launch(folder: string, nodeArgs: readonly string[], ...args: string[]) {
  const file = join(folder, "src", "cli", "stitch.mjs");
  const child = spawn(process.execPath, [...nodeArgs, file, ...args], {
    env: bareEnv({}),
    timeout: 15_000,
    killSignal: "SIGKILL",
  });
  return child;
}

async function run(folder: string, nodeArgs: readonly string[], ...args: string[]) {
  const child = launch(folder, nodeArgs, ...args);
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  return { stdout: stdout.trim(), stderr, code: code as number | null, signal: signal as string | null };
}

test("runs main.ts itself under a new Node", async () => {
  await using clone = await packageWith(SOURCE, false);
  const { stdout, code } = await run(clone.folder, [], "a", "b c");
  assert.deepEqual([stdout, code], ["a b c 24 main.ts", 3]);
});

test("runs what was built where there is no source; in a clone the source, whatever was built before", async () => {
  await using published = await packageWith(BUILT, false);
  assert.equal((await run(published.folder, [], "a")).stdout, "a 24 main.js");
  await using clone = await packageWith(SOURCE, false);
  await writeFile(join(clone.folder, BUILT), "throw new Error('not this one')");
  assert.equal((await run(clone.folder, [], "a")).stdout, "a 24 main.ts");
});

for (const [name, under] of [
  ["with a #", "a#b"],
  ["with a ?", "a?b"],
  ["with a %", "100%"],
  ["with an encoded space", "a%20b"],
  ["with a space", "a b"],
  ["with letters that are not ASCII", "ü-日本"],
  ["with a very long path", join(...Array.from({ length: 14 }, () => "x".repeat(200)))],
] as const)
  test(`runs in a folder ${name}, under a new Node and an older one`, async () => {
    await using clone = await packageWith(SOURCE, true, under);
    for (const node of [[], OLDER]) {
      const { stdout, stderr, code } = await run(clone.folder, node, "a");
      assert.deepEqual([stdout, code], ["a 24 main.ts", 3], stderr);
    }
  });

test("runs through a link to the launcher", async () => {
  await using clone = await packageWith(SOURCE, false, "a#b");
  const link = join(clone.folder, "stitch");
  await symlink(join("src", "cli", "stitch.mjs"), link);
  const child = spawn(process.execPath, [link, "a"], { env: bareEnv({}), timeout: 15_000, killSignal: "SIGKILL" });
  const [stdout] = await Promise.all([text(child.stdout), once(child, "close")]);
  assert.equal(stdout.trim(), "a 24 main.ts");
});

test("under an older Node, runs the package's own Node with the arguments, and returns its exit code", async () => {
  await using clone = await packageWith(SOURCE, true);
  const { stdout, code } = await run(clone.folder, OLDER, "a", "b c");
  assert.deepEqual([stdout, code], ["a b c 24 main.ts", 3]);
});

test("under an older Node, passes signals on, and a death by signal stays a death by signal", async () => {
  await using clone = await packageWith(SOURCE, true);
  const child = launch(clone.folder, OLDER, "wait");
  await once(child.stdout, "data");
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [7, null]);
  assert.equal((await run(clone.folder, OLDER, "die")).signal, "SIGKILL");
});

test("under an older Node without the package's own Node, says what to install", async () => {
  await using clone = await packageWith(SOURCE, false);
  const { stderr, code } = await run(clone.folder, OLDER);
  assert.equal(code, 1);
  assert.match(stderr, /needs Node 24 or newer; this is Node 20\.1\.0\.\nIn a clone: npm ci/);
});
