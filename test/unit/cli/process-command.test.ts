import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { bareEnv } from "./run-stitch.ts";

const src = (path: string): string => JSON.stringify(new URL(`../../../src/cli/${path}`, import.meta.url).href);

/** A process that runs `runPart` with the part in `body`: an expression for an async function that starts it. */
function startPart(body: string, env: Record<string, string> = {}) {
  const code = `
    import { runPart } from ${src("process-command.ts")};
    import { endWith } from ${src("end-with.ts")};
    const say = (text) => process.stdout.write(text + "\\n");
    const never = new Promise(() => undefined);
    setInterval(() => undefined, 60_000); // a handle that would keep the process alive
    endWith(await runPart(async () => ${body}, process.env));`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", code], {
    env: bareEnv(env),
    timeout: 15_000,
  });
  let seen = "";
  child.stdout.on("data", (data: Buffer) => (seen += data.toString()));
  child.stderr.on("data", (data: Buffer) => (seen += data.toString()));
  return {
    child,
    saw: async (text: string): Promise<void> => {
      for (let turn = 0; !seen.includes(text); turn++) {
        assert.ok(turn < 500 && child.exitCode === null, `"${text}" was not said, but: ${seen}`);
        await sleep(20);
      }
    },
    ended: once(child, "close").then(([exitCode]) => ({ exitCode: exitCode as number | null, seen })),
  };
}

const PART = `async () => ({
  ready: "the part is ready",
  stop: async () => say("stopping"),
  kill: () => say("killed"),
  ended: never,
})`;
const SLOW_TO_STOP = PART.replace('say("stopping")', '{ say("stopping"); await never; }');

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  test(`${signal}: it says ready, stops in good order and ends with 0`, async () => {
    const part = startPart(PART);
    await part.saw("the part is ready");
    part.child.kill(signal);
    const { exitCode, seen } = await part.ended;
    assert.equal(exitCode, 0, seen);
    assert.match(seen, /stopping/);
    assert.doesNotMatch(seen, /killed/);
  });
}

test("the same Ctrl-C told twice is one; a second one lets go at once, with 130", async () => {
  const part = startPart(SLOW_TO_STOP);
  await part.saw("the part is ready");
  part.child.kill("SIGINT");
  await part.saw("stopping");
  part.child.kill("SIGINT");
  await sleep(700);
  assert.equal(part.child.exitCode, null);
  part.child.kill("SIGINT");
  const { exitCode, seen } = await part.ended;
  assert.deepEqual([exitCode, seen.includes("killed")], [130, true]);
});

test("a second SIGTERM ends with 1", async () => {
  const part = startPart(SLOW_TO_STOP);
  await part.saw("the part is ready");
  part.child.kill("SIGTERM");
  await part.saw("stopping");
  await sleep(600);
  part.child.kill("SIGTERM");
  assert.equal((await part.ended).exitCode, 1);
});

test("a signal while it starts stops it once it has started", async () => {
  const part = startPart(
    `async () => { say("starting"); await new Promise((r) => setTimeout(r, 500)); return (${PART})(); }`,
  );
  await part.saw("starting");
  part.child.kill("SIGTERM");
  const { exitCode, seen } = await part.ended;
  assert.equal(exitCode, 0, seen);
  assert.match(seen, /stopping/);
});

test("an error at the start: its message and next step, no stack, ends with 1", async () => {
  const fails = `async () => { throw Object.assign(new Error("no Redis"), { next: "set REDIS_URL" }); }`;
  const { exitCode, seen } = await startPart(fails).ended;
  assert.deepEqual([exitCode, seen], [1, "no Redis\nset REDIS_URL\n"]);
  assert.match((await startPart(fails, { STITCH_LOG_LEVEL: "debug" }).ended).seen, /Error: no Redis\n\s+at /);
});

test("a part that breaks while it runs: its message, what is left is let go, ends with 1", async () => {
  const breaks = PART.replace("ended: never", 'ended: new Promise((_, no) => setTimeout(no, 50, new Error("broke")))');
  const { exitCode, seen } = await startPart(breaks).ended;
  assert.equal(exitCode, 1);
  assert.match(seen, /broke/);
  assert.match(seen, /killed/);
});
