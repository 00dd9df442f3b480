import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { LastBeat } from "../../../workers/node/membership/last-beat.ts";

const BOOT = "0c9b7d1e-5a4f-4b6e-9a53-1f2d3c4b5a69";
const LEASE_MS = 1000;

test("tells the next life how long the lease may run, unless it was given back, of another boot or unreadable", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-beat-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const errors: unknown[] = [];
  const open = (bootId: string | null = BOOT) => new LastBeat(dir, bootId, (error) => errors.push(error));
  const left = (nowMs: number, bootId: string | null = BOOT) => Math.max(0, open(bootId).leftMs(nowMs, LEASE_MS));
  assert.equal(left(1), 0);
  const first = open();
  for (let endMs = 1; endMs <= 5000; endMs++) first.holdsUntil(endMs);
  await first.close();
  assert.deepEqual(
    [4000, 4993, 5000, 9000].map((nowMs) => left(nowMs)),
    [1000, 7, 0, 0],
  );
  assert.equal(left(3999), 0, "the clock was set back");
  assert.deepEqual([left(4993, BOOT.replace("0", "1")), left(4993, null)], [0, 0]);
  const second = open();
  second.holdsUntil(6000);
  const over = second.isGivenBack();
  second.holdsUntil(7000);
  await over;
  await second.close();
  assert.equal(left(5999), 0);
  const third = open(null);
  third.holdsUntil(6000);
  await third.close();
  assert.equal(left(5999), 0);
  writeFileSync(join(dir, "last-beat"), "no time");
  assert.equal(left(1), 0);
  assert.deepEqual(errors, []);
  rmSync(join(dir, "last-beat"));
  symlinkSync("/etc/passwd", join(dir, "last-beat"));
  assert.equal(left(1), 0);
  const fourth = open();
  for (let endMs = 1; endMs <= 10; endMs++) {
    fourth.holdsUntil(endMs);
    await fourth.close();
  }
  assert.equal(errors.length, 2, "what was read, and what could not be written is told of once");
  assert.equal(readFileSync("/etc/passwd", "utf8").startsWith("0000"), false);
});
