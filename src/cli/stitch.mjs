#!/usr/bin/env node
// Runs the command line under Node 24 or newer, whatever Node the shell has. Plain JavaScript, because an older Node reads it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { ENDING_SIGNALS } from "../ending-signals.mjs";

const NEEDED = 24;
const here = dirname(fileURLToPath(import.meta.url));
// A clone has the source. The package has what is built of it: Node strips no types inside node_modules.
const main = ["main.ts", "../../dist/cli/main.js"].map((name) => join(here, name)).find(existsSync);

if (main === undefined) {
  fail(`no main.ts in ${here}, and no dist/cli: the installation is not whole`);
} else if (Number.parseInt(process.versions.node, 10) >= NEEDED) {
  // As a URL: in a plain path, #, ? and % would get another meaning.
  await import(pathToFileURL(main).href);
} else {
  const node = nodeBeside(here);
  if (node === null) {
    fail(`CrossStitch needs Node ${NEEDED} or newer; this is Node ${process.versions.node}.
In a clone: npm ci (it brings Node ${NEEDED} along). Elsewhere: https://nodejs.org/en/download, or nvm install ${NEEDED}`);
  } else {
    runUnder(node, main);
  }
}

/** The Node that the npm package `node` put into the nearest node_modules/.bin, or null. */
function nodeBeside(folder) {
  const node = join(folder, "node_modules", ".bin", "node");
  if (existsSync(node)) return node;
  return dirname(folder) === folder ? null : nodeBeside(dirname(folder));
}

function runUnder(node, script) {
  const child = spawn(node, [script, ...process.argv.slice(2)], { stdio: "inherit" });
  const signals = [...ENDING_SIGNALS, "SIGUSR2"];
  // A terminal sends Ctrl-C to both processes, so the child may get it twice; the child counts two at once as one.
  for (const signal of signals) process.on(signal, () => child.kill(signal));
  child.on("error", (error) => fail(`cannot run ${node}: ${error.message}`));
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
    // Reached if that signal does not end this process.
    process.exitCode = 128 + (constants.signals[signal] ?? 0);
  });
}

function fail(message) {
  process.stderr.write(`stitch: ${message}\n`);
  process.exitCode = 1;
}
