import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Adaptor, Exit, StitchInstance } from "../../../workers/node/protocol/adaptor.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchHost } from "../../../workers/node/stitches/stitch-host.ts";
import { StitchRegistry } from "../../../workers/node/stitches/stitch-registry.ts";
import { until } from "../../support/cluster.ts";
import { hostOptions } from "../../support/host-options.ts";
import { stored } from "../../support/test-spec.ts";

/** A host on `n1` with this adaptor. Its timers are real, and its backoff is short. */
function hosting(t: TestContext, adaptor: Adaptor) {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const errors: unknown[] = [];
  const disk = new StitchDisk(dir, (error) => errors.push(error));
  let record: StitchRecord | null = null;
  const registry = new StitchRegistry();
  const host = new StitchHost(
    hostOptions(adaptor, {
      registry,
      disk,
      publish: (changes) => {
        for (const change of changes) if (change.kind === "set") record = change.record;
      },
      onError: (error) => errors.push(error),
    }),
  );
  t.after(async () => {
    await host.stopAll(0);
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const create = (restart: object = {}) =>
    host.apply(
      {
        action: "create",
        stitch: "n1:a",
        group: "a.b.1",
        specHash: stored(
          stitchSpec.parse({ adaptor: "process", command: ["x"], restart: { backoffMs: 10, ...restart } }),
        ).specHash,
        start: true,
        timeoutMs: 10_000,
      },
      { revision: 1, wave: 0 },
    );
  const said = async () => ((await registry.log("a")?.tail(100))?.lines ?? []).map(({ line }) => line).join("\n");
  const now = () => record ?? assert.fail("no record");
  return { dir, host, disk, errors, create, said, now };
}

type Run = StitchInstance & { readonly end: (code: number) => void };

/** Runs until it is stopped, or until the test calls `end`. */
function runs(): Run {
  const exited = Promise.withResolvers<Exit>();
  const end = (code: number) => exited.resolve({ code, signal: null });
  const stop = () => {
    end(0);
    return exited.promise;
  };
  return { pid: 4711, started: Promise.resolve({ kind: "running" }), exited: exited.promise, stop, end };
}

test("a start that throws fails like any other: its step and log say why, and its policy starts it again", async (t) => {
  let starts = 0;
  const { create, said, now, errors } = hosting(t, () => {
    if (++starts < 3) throw new Error("ELOOP: too many symbolic links");
    return runs();
  });
  const outcome = await create();
  assert.deepEqual(outcome.error, { code: "spawn_failed", message: "ELOOP: too many symbolic links" });
  await until("it runs", () => now().state === "running");
  assert.equal(starts, 3);
  assert.match(await said(), /^spawn_failed: ELOOP: too many symbolic links$/m);
  assert.match(await said(), /^it could not be started; starting it again in \d+ ms \(restart 2 of 5\)$/m);
  assert.deepEqual(errors, []);
});

test("a start that throws at each try ends as its policy says", async (t) => {
  const adaptor = () => {
    throw new Error("no");
  };
  const { create, said, now } = hosting(t, adaptor);
  assert.equal((await create({ policy: "on-failure", maxRestarts: 2 })).status, "failed");
  await until("it is given up", () => now().state === "failed");
  assert.match(await said(), /^failed: it could not be started; a crash loop: it was restarted 2 times/m);
});

test("a data folder that cannot be made fails only that start, and a later start makes it", async (t) => {
  const program: Run[] = [];
  const { dir, create, said, now } = hosting(t, () => {
    program.push(runs());
    return program.at(-1) ?? assert.fail();
  });
  assert.equal((await create({ maxRestarts: 1000, maxBackoffMs: 20 })).status, "succeeded");
  const data = join(dir, "data");
  renameSync(data, `${data}.old`);
  // Behind a link to itself, nothing can be found or made.
  symlinkSync(data, data);
  program[0]?.end(1);
  await until("its log says why", async () => /^spawn_failed: .* cannot be made \(ELOOP/m.test(await said()));
  rmSync(data);
  await until("it runs", () => now().state === "running");
  assert.equal(program.length, 2);
});

test("a link in place of a data folder is not followed, and not turned into a folder", async (t) => {
  const { dir, disk } = hosting(t, runs);
  mkdirSync(join(dir, "data"));
  for (const [id, to] of [
    ["itself", join(dir, "data", "itself")],
    ["nowhere", join(dir, "nowhere")],
  ] as const) {
    symlinkSync(to, join(dir, "data", id));
    assert.equal(await disk.makeDataDir(id), join(dir, "data", id));
    assert.equal(await disk.hasLeftovers(id), true, "another stitch under that id must not take it over");
    await disk.putAside(id, 1);
    assert.equal(await disk.hasLeftovers(id), false);
  }
});

test("a journal that cannot be written does not cost a stitch its restart", async (t) => {
  const program: Run[] = [];
  const { dir, create, now, errors, disk } = hosting(t, () => {
    program.push(runs());
    return program.at(-1) ?? assert.fail();
  });
  await create();
  // The journal is written anew under another name. Here, that name is a folder, which a file cannot replace.
  mkdirSync(join(dir, "stitches.jsonl.new"));
  rmSync(join(dir, "stitches.jsonl"));
  program[0]?.end(1);
  await until("it runs again", () => program.length === 2 && now().state === "running");
  await until("the failure is told", () => /stitches.jsonl cannot be written/.test(String(errors[0])));
  rmdirSync(join(dir, "stitches.jsonl.new"));
  await disk.written();
  assert.equal(disk.load().stitches[0]?.restarts, 1);
});
