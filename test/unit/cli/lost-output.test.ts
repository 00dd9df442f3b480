import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { CannedApi, creating, job, sendJson } from "./canned-api.ts";
import { bareEnv, STITCH } from "./run-stitch.ts";

/** The exit code of `stitch <args>` with the shell's redirection of its output, and what is left of stderr. */
async function ended(api: CannedApi, redirection: string, args: readonly string[]) {
  const shell = `{ "$0" "$@" ${redirection}; echo "ended with $?" >&3; } 3>&1 >/dev/null`;
  const child = spawn("sh", ["-c", shell, process.execPath, STITCH, ...args], {
    env: bareEnv({ STITCH_URL: api.url }),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 20_000,
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { code: Number(/ended with (\d+)/.exec(stdout)?.[1]), stderr };
}

for (const [status, code] of [
  ["succeeded", 0],
  ["failed", 3],
] as const)
  test(`a command whose readers have closed exits with the code of its job: ${status}`, async () => {
    let looks = 0;
    await using api = await CannedApi.start((_, response) => {
      looks += 1;
      sendJson(response, 200, job(looks < 3 ? "running" : status, { tasks: creating("n1:a-1") }));
    });
    for (const args of [
      ["restart", "n1:a"],
      ["run", "a.b.1", "--", "true"],
      ["restart", "n1:a", "--json"],
    ]) {
      looks = 0;
      // The reader has closed before anything is written.
      const shell = `{ { sleep 0.2; "$0" "$@" 2>&1; echo "ended with $?" >&3; } | true; } 3>&1 >/dev/null`;
      const child = spawn("sh", ["-c", shell, process.execPath, STITCH, ...args], {
        env: bareEnv({ STITCH_URL: api.url }),
        stdio: ["ignore", "pipe", "ignore"],
        timeout: 20_000,
      });
      assert.match(await text(child.stdout), new RegExp(`ended with ${code}\n`), args.join(" "));
      assert.equal(looks, 3, "it waited for the end of its job");
    }
  });

test("a command whose stderr is a full disk exits with the code of its job", {
  skip: process.platform !== "linux" && "there is no /dev/full",
}, async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("succeeded")));
  assert.equal((await ended(api, "2>/dev/full", ["restart", "n1:a"])).code, 0);
  assert.equal((await ended(api, ">/dev/full 2>/dev/full", ["restart", "n1:a"])).code, 0);
});

test("an answer that a full disk cannot take is reported as lost and exits with 1", {
  skip: process.platform !== "linux" && "there is no /dev/full",
}, async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("succeeded")));
  for (const args of [
    ["restart", "n1:a", "--json"],
    ["jobs", "j".repeat(27)],
  ]) {
    const { code, stderr } = await ended(api, ">/dev/full", args);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /The answer could not be written: .*ENOSPC.* See to where stdout goes\./);
    assert.doesNotMatch(stderr, /\n +at /);
  }
});
