import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { ENDING_SIGNALS } from "../../../src/ending-signals.mjs";
import { bareEnv } from "./run-stitch.ts";

const src = (path: string): string => JSON.stringify(new URL(`../../../src/cli/${path}`, import.meta.url).href);

/**
 * A process that calls `runPart` with `body`: an expression for an async function that starts the part. The process prints
 * how many signals it has handled. Its clock moves only when a line on stdin sets it. In `body`, `line()` resolves with the
 * next line of stdin.
 */
function startPart(body: string, env: Record<string, string> = {}) {
  const code = `
    import { createInterface } from "node:readline";
    import { runPart } from ${src("processes/process-command.ts")};
    import { endWith } from ${src("terminal/end-with.ts")};
    let nowMs = 0;
    performance.now = () => nowMs;
    const say = (text) => process.stdout.write(text + "\\n");
    const never = new Promise(() => undefined);
    const input = createInterface({ input: process.stdin }); // also a handle that keeps the process alive
    const line = () => new Promise((resolve) => input.once("line", resolve));
    input.on("line", (text) => {
      if (/^\\d+$/.test(text)) say("it is " + (nowMs = Number(text)));
    });
    const running = runPart(async () => ${body}, process.env);
    let heard = 0;
    for (const name of ${JSON.stringify(ENDING_SIGNALS)}) process.on(name, () => say("heard " + ++heard));
    endWith(await running);`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
    env: bareEnv(env),
    timeout: 15_000,
    killSignal: "SIGKILL",
  });
  let seen = "";
  let news = Promise.withResolvers<void>();
  for (const output of [child.stdout, child.stderr])
    output.on("data", (data: Buffer) => {
      seen += data.toString();
      news.resolve();
      news = Promise.withResolvers();
    });
  const ended = once(child, "close").then(([exitCode]) => ({ exitCode: exitCode as number | null, seen }));
  const saw = async (text: string): Promise<void> => {
    while (!seen.includes(text)) {
      assert.ok(child.exitCode === null && child.signalCode === null, `"${text}" was not said, but: ${seen}`);
      await Promise.race([news.promise, ended]);
    }
  };
  const tell = (text: string) => child.stdin.write(`${text}\n`);
  return {
    child,
    saw,
    tell,
    /** Resolves when the clock of the process stands at `ms`. */
    at: async (ms: number): Promise<void> => {
      tell(String(ms));
      await saw(`it is ${ms}`);
    },
    ended,
  };
}

const PART = `async () => ({
  ready: "the part is ready",
  stop: async () => say("stopping"),
  kill: () => say("killed"),
  ended: never,
})`;
const SLOW_TO_STOP = PART.replace('say("stopping")', '{ say("stopping"); await never; }');

// Each test spends most of its time waiting for its process.
describe("a part that runs as its own process", { concurrency: 4 }, () => {
  for (const signal of ENDING_SIGNALS) {
    it(`prints that it is ready, stops in good order at ${signal} and exits with 0`, async () => {
      const part = startPart(PART);
      await part.saw("the part is ready");
      part.child.kill(signal);
      const { exitCode, seen } = await part.ended;
      assert.equal(exitCode, 0, seen);
      assert.match(seen, /stopping/);
      assert.doesNotMatch(seen, /killed/);
    });
  }

  it("one Ctrl-C that arrives twice counts once; a second Ctrl-C kills it at once, and it exits with 130", async () => {
    const part = startPart(SLOW_TO_STOP);
    await part.saw("the part is ready");
    part.child.kill("SIGINT");
    await part.saw("stopping");
    await part.at(500);
    part.child.kill("SIGINT");
    await part.saw("heard 2");
    await part.at(501);
    part.child.kill("SIGINT");
    const { exitCode, seen } = await part.ended;
    assert.deepEqual([exitCode, seen.includes("killed")], [130, true]);
  });

  for (const [first, second] of [
    ["SIGTERM", "SIGTERM"],
    ["SIGHUP", "SIGHUP"],
    ["SIGQUIT", "SIGTERM"],
    ["SIGINT", "SIGHUP"],
  ] as const)
    it(`${first} and a later ${second} kill it at once, and it exits with 1`, async () => {
      const part = startPart(SLOW_TO_STOP);
      await part.saw("the part is ready");
      part.child.kill(first);
      await part.saw("stopping");
      await part.at(500);
      part.child.kill(second);
      await part.saw("heard 2");
      await part.at(501);
      part.child.kill(second);
      const { exitCode, seen } = await part.ended;
      assert.deepEqual([exitCode, seen.includes("killed")], [1, true]);
    });

  it("under nohup, SIGHUP does nothing and SIGTERM still stops it", async () => {
    const part = startPart(PART, { _: "/usr/bin/nohup" });
    await part.saw("the part is ready");
    part.child.kill("SIGHUP");
    await part.saw("heard 1");
    part.tell("7");
    await part.saw("it is 7");
    part.child.kill("SIGTERM");
    const { exitCode, seen } = await part.ended;
    assert.equal(exitCode, 0, seen);
    assert.match(seen, /it is 7[^]*stopping/);
  });

  for (const signal of ENDING_SIGNALS)
    it(`${signal} during its start stops it once it has started`, async () => {
      const part = startPart(`async () => { say("starting"); await line(); return (${PART})(); }`);
      await part.saw("starting");
      part.child.kill(signal);
      await part.saw("heard 1");
      part.tell("start");
      const { exitCode, seen } = await part.ended;
      assert.equal(exitCode, 0, seen);
      assert.match(seen, /stopping/);
    });

  it("an error at the start prints its message and next step without a stack, and it exits with 1", async () => {
    const fails = `async () => { throw Object.assign(new Error("no Redis"), { next: "set REDIS_URL" }); }`;
    const { exitCode, seen } = await startPart(fails).ended;
    assert.deepEqual([exitCode, seen], [1, "no Redis\nset REDIS_URL\n"]);
    assert.match((await startPart(fails, { STITCH_LOG_LEVEL: "debug" }).ended).seen, /Error: no Redis\n\s+at /);
  });

  it("an error while it runs prints its message and kills what is left, and it exits with 1", async () => {
    const part = startPart(PART.replace("ended: never", 'ended: line().then(() => { throw new Error("broke"); })'));
    await part.saw("the part is ready");
    part.tell("break");
    const { exitCode, seen } = await part.ended;
    assert.equal(exitCode, 1);
    assert.match(seen, /broke/);
    assert.match(seen, /killed/);
  });
});
