// Makes a clean clone ready: the locked packages, Node 24 (the npm package `node`), a Redis server program; for tests etcd, too.
// Plain JavaScript without dependencies, because it runs before any are installed, under any Node from version 20 on.
//
//   node infra/bootstrap.mjs            for `npm start`: no Redis program is needed if REDIS_URL is set
//   node infra/bootstrap.mjs --packages for `npm run release`: needs no Redis
//   node infra/bootstrap.mjs --tests    for `npm test`: the tests start their own Redis, whatever REDIS_URL says, and their own
//                                       etcd where it is installed, or can be with apt-get
//
// Running it again changes nothing. Exit code 0, or 1 with the reason and the line to type.
import { spawn } from "node:child_process";
import { accessSync, constants, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { codeOfSignal, onEndingSignals } from "../src/ending-signals.mjs";

const NODE_NEEDED = 24;
const REDIS_PROGRAMS = ["redis-server", "valkey-server"];
/** While it waits, it prints a line at least this often: people take silence for a hang. */
const STILL_EVERY_MS = 3000;
const INSTALL_LIMIT_MS = 15 * 60_000;
/** Debian's package scripts ask this program before they start a service; 101 means no (invoke-rc.d(8)). */
const SERVICE_POLICY = "/usr/sbin/policy-rc.d";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const forTests = process.argv.includes("--tests");
/** An error that the user can fix. Any other error is a bug of this file and is shown with its stack trace. */
class Problem extends Error {}
/** The functions that an interruption calls to undo: they end the running child, or remove a policy file. */
const undo = new Set();

onEndingSignals((signal) => {
  for (const action of undo) action();
  process.exit(codeOfSignal(signal));
});

// If the reader of the output is gone (`npm start | head -1`) or the disk is full, the work continues anyway.
for (const output of [process.stdout, process.stderr]) output.on("error", () => undefined);

const startedMs = performance.now();
try {
  await packages();
  await node();
  const needsRedis = forTests || !(process.argv.includes("--packages") || process.env.REDIS_URL);
  if (needsRedis) await redis();
  if (forTests) await etcd();
  say(`packages, Node ${NODE_NEEDED}${needsRedis ? ", Redis" : ""}: ready, ${secondsSince(startedMs, 1)}`);
} catch (error) {
  process.stderr.write(`bootstrap: ${error instanceof Problem ? error.message : (error.stack ?? error)}\n`);
  process.exitCode = 1;
}

async function packages() {
  const lock = readJson("package-lock.json");
  if (lock === null) throw new Problem("package-lock.json is missing: is this a whole clone?");
  if (agrees(lock.packages, readJson("node_modules/.package-lock.json")?.packages)) return;
  const npm = npmCommand();
  // `npm ci` refuses a lock without the optional packages of other platforms. For this lock, `npm install --no-save` also
  // installs the exact versions, and does not change the lock as long as the lock agrees with package.json.
  const ci = holdsEveryPlatform(lock.packages);
  if (!ci && !matches(lock.packages[""], readJson("package.json"))) {
    throw new Problem("package-lock.json does not agree with package.json. Type: npm install");
  }
  const args = [...(ci ? ["ci"] : ["install", "--no-save"]), "--include=dev", "--no-audit", "--no-fund"];
  await step("installing the locked packages", () =>
    run(npm.file, [...npm.args, ...args], {
      // Under an older Node, npm would refuse packages that need Node 24. They run under the Node that is installed with them.
      env: { ...process.env, npm_config_engine_strict: "false" },
      advice: `npm ${args.join(" ")}`,
    }),
  );
}

/** Does npm's record of installed packages agree with the lock? Optional packages of other platforms may be absent. */
function agrees(wanted, installed) {
  if (installed === undefined) return false;
  return Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    const present = installed[path];
    if (path === "") return true;
    if (present === undefined) return optional === true;
    return present.version === version && (!integrity || !present.integrity || present.integrity === integrity);
  });
}

function holdsEveryPlatform(locked) {
  const names = new Set(Object.keys(locked).map((path) => path.slice(path.lastIndexOf("node_modules/") + 13)));
  return Object.values(locked).every((entry) =>
    Object.keys(entry.optionalDependencies ?? {}).every((name) => names.has(name)),
  );
}

function matches(locked, manifest) {
  return ["dependencies", "devDependencies", "optionalDependencies"].every((kind) => {
    const [asked, held] = [manifest[kind] ?? {}, locked[kind] ?? {}];
    return (
      Object.keys(asked).length === Object.keys(held).length &&
      Object.entries(asked).every(([name, version]) => held[name] === version)
    );
  });
}

/** npm tells its scripts its own path: so the same npm is used, whatever the PATH says. */
function npmCommand() {
  const cli = process.env.npm_execpath ?? "";
  return /npm-cli\.[cm]?js$/.test(cli) ? { file: process.execPath, args: [cli] } : { file: "npm", args: [] };
}

/** npm scripts find node_modules/.bin first on the PATH, so the Node in that folder runs everything else. */
async function node() {
  const path = join(root, "node_modules", ".bin", "node");
  const advice = "npm rebuild node --ignore-scripts=false --foreground-scripts";
  const found = await run(path, ["--version"], { advice, limitMs: 20_000 });
  if (!(Number.parseInt(found.replace("v", ""), 10) >= NODE_NEEDED)) {
    throw new Problem(`${path} is Node ${found.trim()}; ${NODE_NEEDED} or newer is needed. Type: ${advice}`);
  }
}

async function redis() {
  if (REDIS_PROGRAMS.some(onPath)) return;
  const missing = "Neither redis-server nor valkey-server is on the PATH";
  if (process.getuid?.() === 0 && onPath("apt-get")) {
    say(`${missing}. The package's program is used, never its service.`);
    await step("installing redis-server with apt-get", () => installWithApt("redis-server"));
  } else if (onPath("brew")) {
    say(`${missing}. The package's program is used, never its service.`);
    await step("installing redis with brew", () => run("brew", ["install", "redis"], { advice: "brew install redis" }));
  } else {
    throw new Problem(`${missing}. Type: ${installLine()}${forTests ? "" : "\nOr set REDIS_URL to a Redis you have."}`);
  }
  if (!REDIS_PROGRAMS.some(onPath))
    throw new Problem(`${missing}, although it was installed. PATH=${process.env.PATH}`);
}

function installLine() {
  if (process.platform === "darwin") return "brew install redis   (brew: https://brew.sh)";
  const lines = {
    "apt-get": "sudo apt-get update && sudo apt-get install -y --no-install-recommends redis-server",
    dnf: "sudo dnf install -y valkey",
    pacman: "sudo pacman -S --needed valkey",
    apk: "apk add redis   (as root)",
    zypper: "sudo zypper install -y redis",
  };
  const manager = Object.keys(lines).find(onPath);
  return manager === undefined ? "the install line of your system for redis-server or valkey-server" : lines[manager];
}

/** Without etcd, the tests that need it are skipped: nobody else needs it. */
async function etcd() {
  if (onPath("etcd") || process.getuid?.() !== 0 || !onPath("apt-get")) return;
  await step("installing etcd-server with apt-get", () => installWithApt("etcd-server")).catch((error) => {
    if (!(error instanceof Problem)) throw error;
    say(`${error.message}\nThe tests with etcd are skipped.`);
  });
}

async function installWithApt(name) {
  const advice = `apt-get update && apt-get install -y --no-install-recommends ${name}`;
  // RUNLEVEL=1 and the policy both say: start no service.
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const liftPolicy = forbidServices();
  try {
    // The update fails if one of several sources does not answer, but the package may be available: the install decides.
    await run("apt-get", ["update"], { env, advice }).catch((error) =>
      say(`apt-get update: ${error.message.split("\n")[0]}`),
    );
    await run("apt-get", ["install", "-y", "--no-install-recommends", name], { env, advice });
  } finally {
    liftPolicy();
  }
}

/** @returns a function that removes the policy file; a policy file that existed before is left alone. */
function forbidServices() {
  try {
    writeFileSync(SERVICE_POLICY, "#!/bin/sh\nexit 101\n", { flag: "wx", mode: 0o755 });
  } catch (error) {
    if (error.code === "EEXIST") return () => undefined;
    throw error;
  }
  const lift = () => {
    undo.delete(lift);
    rmSync(SERVICE_POLICY, { force: true });
  };
  undo.add(lift);
  return lift;
}

/** Runs a program to its end. @returns its stdout. @throws Problem with its last lines and the line to type. */
function run(file, args, { env = process.env, advice, limitMs = INSTALL_LIMIT_MS }) {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    const end = () => child.kill("SIGTERM");
    const limit = setTimeout(end, limitMs);
    undo.add(end);
    let stdout = "";
    let last = "";
    const keep = (text) => {
      last = (last + text).slice(-4000);
    };
    child.stdout.setEncoding("utf8").on("data", (text) => {
      stdout = (stdout + text).slice(-4000);
      keep(text);
    });
    child.stderr.setEncoding("utf8").on("data", keep);
    const finish = (how) => {
      clearTimeout(limit);
      undo.delete(end);
      if (how === null) resolve(stdout);
      else reject(new Problem(`${[file, ...args].join(" ")}: ${how}\n${last.trim()}\nType: ${advice}`));
    };
    child.on("error", (error) => finish(error.message));
    child.on("close", (code, signal) =>
      finish(code === 0 ? null : signal === null ? `exit code ${code}` : `ended by ${signal}`),
    );
  });
}

async function step(doing, work) {
  const startedMs = performance.now();
  say(`${doing} …`);
  const still = setInterval(() => say(`still ${doing} …, ${secondsSince(startedMs, 0)}`), STILL_EVERY_MS);
  try {
    await work();
  } finally {
    clearInterval(still);
  }
  say(`${doing}: done, ${secondsSince(startedMs, 1)}`);
}

function secondsSince(startedMs, digits) {
  return `${((performance.now() - startedMs) / 1000).toFixed(digits)} s`;
}

function say(line) {
  process.stdout.write(`${line}\n`);
}

function onPath(program) {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function readJson(name) {
  try {
    return JSON.parse(readFileSync(join(root, name), "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw new Problem(`${name}: ${error.message}`);
  }
}
