// The file by which a part says that it works, and the program that reads it.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { HealthFile } from "../../../src/cli/processes/health-file.ts";
import { ConfigError } from "../../../src/config.ts";
import { until } from "../../support/cluster.ts";

const HEALTHY = join(import.meta.dirname, "../../../infra/bin/healthy");

function inFolder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "cs-health-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, "health");
}

const healthy = (path: string, ...args: string[]) =>
  spawnSync(HEALTHY, args, { env: { PATH: process.env["PATH"], STITCH_HEALTH_FILE: path }, encoding: "utf8" });
const works = () => Promise.resolve();

describe("the health file", { concurrency: 4 }, () => {
  it("is written while the part works, and goes with the part", async (t) => {
    const path = inFolder(t);
    writeFileSync(path, "of an earlier run");
    const file = new HealthFile(path);
    assert.equal(healthy(path).status, 1);
    file.keep(works, (error) => assert.fail(String(error)));
    await until("it is healthy", () => healthy(path).status === 0);
    file.end();
    file.end();
    assert.ok(!existsSync(path));
  });

  for (const [what, answer] of [
    ["does not work", () => Promise.reject(new Error("no Redis"))],
    ["does not answer", () => new Promise<void>(() => undefined)],
  ] as const)
    it(`is not written while the part ${what}; is written again once it does`, async (t) => {
      const path = inFolder(t);
      const file = new HealthFile(path);
      t.after(() => file.end());
      let asked = 0;
      file.keep(
        () => {
          asked += 1;
          return asked === 1 ? answer() : works();
        },
        (error) => assert.fail(String(error)),
      );
      await until("it is asked a second time", () => {
        assert.ok(asked > 1 || !existsSync(path));
        return asked > 1;
      });
      await until("it is written", () => existsSync(path));
    });

  it("that cannot be written is reported once, and refused at the start", async (t) => {
    const path = inFolder(t);
    const file = new HealthFile(path);
    t.after(() => file.end());
    mkdirSync(path);
    const errors: unknown[] = [];
    file.keep(works, (error) => errors.push(error));
    await until("it is reported", () => errors.length > 0);
    file.end();
    assert.ok(!existsSync(path), "a part that stops takes away whatever is there");
    for (const wrong of [join(path, "in-no-folder"), "/proc/none/health"])
      assert.throws(() => new HealthFile(wrong), ConfigError);
  });
});

describe("healthy", { concurrency: 4 }, () => {
  it("takes a file of the last 20 s, and waits for one when told to", async (t) => {
    const path = inFolder(t);
    writeFileSync(path, "x");
    assert.equal(healthy(path).status, 0);
    const oldS = Date.now() / 1000 - 21;
    utimesSync(path, oldS, oldS);
    const { status, stderr } = healthy(path);
    assert.equal(status, 1);
    assert.match(stderr, /has not worked within the last 20 s; its log says why/);
    assert.equal(healthy(path, "1").status, 1);
    const waiting = spawn(HEALTHY, ["60"], { env: { PATH: process.env["PATH"], STITCH_HEALTH_FILE: path } });
    const exited = once(waiting, "exit");
    writeFileSync(path, "y");
    assert.deepEqual(await exited, [0, null]);
  });

  it("without the setting says so", () => {
    const { status, stderr } = spawnSync(HEALTHY, { env: { PATH: process.env["PATH"] }, encoding: "utf8" });
    assert.notEqual(status, 0);
    assert.match(stderr, /STITCH_HEALTH_FILE: is not set/);
  });
});
