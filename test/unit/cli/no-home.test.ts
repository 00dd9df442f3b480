import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { chown, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, it } from "node:test";
import { REDISES } from "../../support/cluster.ts";
import { bareEnv, MAIN, STITCH } from "./run-stitch.ts";

/** A user without an entry in the list of users. */
const NOBODY = 54_321;

const isUnknown = !new RegExp(`^[^:]*:[^:]*:${NOBODY}:`, "m").test(
  await readFile("/etc/passwd", "utf8").catch(() => ""),
);
const skip =
  process.getuid?.() !== 0 ? "needs root, to run as another user" : !isUnknown ? `there is a user ${NOBODY}` : false;

/** Runs `stitch` as a user without an entry. `HOME` is unset unless it is given. */
async function asNobody(program: string, args: readonly string[], env: Record<string, string>) {
  const cwd = mkdtempSync(join(tmpdir(), "cs-home-"));
  await chown(cwd, NOBODY, NOBODY);
  const { HOME: _, XDG_STATE_HOME: __, ...bare } = bareEnv({});
  try {
    const child = spawn(process.execPath, [program, ...args], {
      cwd,
      env: { ...bare, ...env },
      uid: NOBODY,
      gid: NOBODY,
      timeout: 20_000,
      killSignal: "SIGKILL",
    });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: code as number | null, output: stdout + stderr };
  } finally {
    rmSync(cwd, { recursive: true, force: true });
  }
}

describe("a user without a home folder and without an entry in the list of users", { skip, concurrency: 4 }, () => {
  for (const [what, env] of [
    ["HOME is not set", {}],
    ["HOME is empty", { HOME: "" }],
    ["HOME is relative", { HOME: "home" }],
  ] as const) {
    it(`${what}: a client needs no home folder`, async () => {
      const { code, output } = await asNobody(STITCH, ["ps"], { ...env, STITCH_URL: "http://127.0.0.1:1" });
      assert.equal(code, 1);
      assert.match(output, /127\.0\.0\.1:1/);
      assert.doesNotMatch(output, /homedir|\n\s+at /);
    });

    it(`${what}: a node worker names the setting that it needs`, async () => {
      const redis = { REDIS_URL: REDISES[0]?.url ?? "" };
      const { code, output } = await asNobody(MAIN, ["node"], { ...env, ...redis });
      assert.equal(code, 1);
      assert.match(
        output,
        /^STITCH_STATE_DIR: not set, and this user has no home folder .*\(HOME\); set one of them$/m,
      );
      assert.doesNotMatch(output, /\n\s+at /);
    });
  }

  it("an API reports that Redis does not answer, not that there is no home folder", async () => {
    const { code, output } = await asNobody(MAIN, ["api"], { REDIS_URL: "redis://127.0.0.1:1", STITCH_PORT: "0" });
    assert.equal(code, 1);
    assert.match(output, /Redis does not answer at REDIS_URL/);
  });
});
