import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import type { SentResource } from "../../src/contract/message.ts";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { until } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";
import { quietPort } from "../support/quiet-port.ts";
import { Script, shellEnv } from "../support/script.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");

/** The installation downloads all packages, on a machine that runs other tests at the same time. */
const INSTALL_LIMIT_MS = 5 * 60_000;
const START_LIMIT_MS = 90_000;
const EVENT_LIMIT_MS = 15_000;
const STOP_LIMIT_MS = 40_000;
/** What the README promises for a machine that does nothing else. */
const SILENCE_LIMIT_MS = 5000;
/** npm itself must be loaded first. */
const FIRST_LINE_LIMIT_MS = 20_000;
const TICK_MS = 250;

test("the README's two commands work in a clean clone", { timeout: 12 * 60_000 }, async (t) => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "clean-clone-")));
  // Code that takes this path for a URL would cut it off at the #.
  const clone = join(folder, "crossstitch #1%20");
  const scripts: Script[] = [];
  const port = await quietPort();
  const npm = (...args: string[]): Script => {
    const script = new Script("npm", args, clone, shellEnv({ STITCH_PORT: String(port) }));
    scripts.push(script);
    return script;
  };
  t.after(async () => {
    for (const script of scripts) await script.kill();
    await nothingLeft(clone);
    await rm(folder, { recursive: true, force: true });
  });
  await run("git", ["clone", "--quiet", root, clone]);
  const lag = new Lag();
  t.after(() => lag.stop());
  const assertTells = ({ longestSilenceMs, untilFirstLineMs }: Script) => {
    assert.ok(untilFirstLineMs < FIRST_LINE_LIMIT_MS, `nothing for ${untilFirstLineMs} ms`);
    const limitMs = SILENCE_LIMIT_MS + 3 * lag.worstMs;
    assert.ok(longestSilenceMs < limitMs, `silent for ${longestSilenceMs} ms, more than ${limitMs} ms`);
  };

  await t.test("npm test installs what is needed and runs the tests", async () => {
    const tests = npm("test", "--", "test/unit/check-imports.test.ts");
    assert.equal(await tests.end(INSTALL_LIMIT_MS), 0, tests.output);
    assert.match(tests.output, /^\d+ tests: \d+ passed, 0 failed, /m);
    assertTells(tests);
  });

  await t.test("npm start shows a running cluster and the effect of a POST", async () => {
    const start = npm("start");
    await start.printed(/What happens from here on/, START_LIMIT_MS);
    assertTells(start);
    for (const node of ["n1", "n2", "n3"]) assert.match(start.output, new RegExp(`^${node} +alive +eligible`, "m"));
    assert.match(start.output, /^n2:counter-2 +wordcount\.counter\.1 +running +running/m);
    assert.match(start.output, /^n3:disk +samples\.disk\.1 +running +running/m);

    const [nodesLine, askLine, stopLine] = curlLines(start.output);
    const nodes = await curl(nodesLine);
    assert.equal(nodes.status, 200);
    assert.deepEqual(idsOf(nodes.body), ["n1", "n2", "n3"]);

    const told = await until("the lines have been counted", async () => {
      const { status, body } = await curl(askLine);
      if ((body as { code?: string }).code === "reply_timeout") return null;
      assert.equal(status, 200, JSON.stringify(body));
      const reply = JSON.parse((body as SentResource).deliveries[0]?.data ?? "") as Record<string, unknown>;
      return reply["counted"] === reply["lines"] ? reply : null;
    });
    assert.deepEqual(told, { file: "LICENSE", lines: 21, counted: 21, words: 170, silent: [] });

    const startLine = stopLine.replace("stitch.stop", "stitch.start");
    const [stopped, started] = [/stitch\.stopped +n2:counter-2/, /stitch\.started +n2:counter-2/];
    for (const [line, event] of [
      [stopLine, stopped],
      [startLine, started],
      [stopLine, new RegExp(`${stopped.source}[^]*${started.source}[^]*${stopped.source}`)],
    ] as const) {
      const { status, body } = await curl(line);
      assert.equal(status, 200, JSON.stringify(body));
      await start.printed(event, EVENT_LIMIT_MS);
    }

    const second = npm("start");
    assert.notEqual(await second.end(START_LIMIT_MS), 0);
    assert.match(second.output, /already runs in .*\.crossstitch/);

    start.interrupt();
    await start.end(STOP_LIMIT_MS);
    await nothingLeft(clone);
  });

  await t.test("a second npm start finds the state again: a stopped stitch stays stopped", async () => {
    const start = npm("start");
    await start.printed(/What happens from here on/, START_LIMIT_MS);
    assert.match(start.output, /^n2:counter-2 +wordcount\.counter\.1 +stopped +stopped/m);
    assert.match(start.output, /^n3:disk +samples\.disk\.1 +running +running/m);
    start.interrupt();
    await start.end(STOP_LIMIT_MS);
    await nothingLeft(clone);
  });

  await t.test("npm start -- --reset clears the state", async () => {
    const start = npm("start", "--", "--reset");
    await start.printed(/What happens from here on/, START_LIMIT_MS);
    assert.match(start.output, /^n2:counter-2 +wordcount\.counter\.1 +running +running/m);
    start.interrupt();
    await start.end(STOP_LIMIT_MS);
    await nothingLeft(clone);
  });
});

/** How late this process's own timers are on a busy machine. The processes that it watches are at least as late. */
class Lag {
  worstMs = 0;
  #atMs = performance.now();
  readonly #timer = setInterval(() => {
    const nowMs = performance.now();
    this.worstMs = Math.max(this.worstMs, nowMs - this.#atMs - TICK_MS);
    this.#atMs = nowMs;
  }, TICK_MS);

  stop(): void {
    clearInterval(this.#timer);
  }
}

async function nothingLeft(folder: string): Promise<void> {
  const gone = await waitUntil(async () => (await processesOf(folder)).length === 0, STOP_LIMIT_MS);
  assert.ok(gone, `left behind:\n${(await processesOf(folder)).join("\n")}`);
}

function curlLines(output: string): [string, string, string] {
  const [first, second, third, ...more] = output.split("\n").filter((line) => line.startsWith("  curl "));
  assert.ok(first !== undefined && second !== undefined && third !== undefined && more.length === 0, output);
  return [first, second, third];
}

/** Does what curl would do with a printed line, because the machine may have no curl. */
async function curl(line: string): Promise<{ status: number; body: unknown }> {
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map((match) => match[1] ?? match[2] ?? match[3] ?? "");
  const after = (flag: string): string[] => words.filter((_, index) => words[index - 1] === flag);
  const headers = new Headers(after("-H").map((header) => header.split(/:\s*/, 2) as [string, string]));
  const [data] = after("-d");
  const url = words.find((word) => word.startsWith("http"));
  assert.ok(url !== undefined, line);
  const response = await checkedFetch(url, data === undefined ? { headers } : { method: "POST", headers, body: data });
  return { status: response.status, body: await response.json() };
}

function idsOf(list: unknown): unknown[] {
  assert.ok(typeof list === "object" && list !== null && "items" in list && Array.isArray(list.items));
  return list.items.map((item: { id: unknown }) => item.id);
}
