import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs";
import { test } from "node:test";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { Launcher } from "../../../workers/node/adaptors/launcher.ts";
import { processAdaptor } from "../../../workers/node/adaptors/process.ts";
import { EscapedProcesses } from "../../../workers/node/processes/escaped-processes.ts";
import { OutputPace } from "../../../workers/node/logs/output-pace.ts";
import { Watchdog } from "../../../workers/node/processes/watchdog.ts";

/** Longer than a program must live to count as running. */
const HELD_MS = 3000;

test("a program that ended while the event loop was blocked was never up, however long that was", async (t) => {
  const session = randomUUID();
  const watchdog = new Watchdog(session, assert.ifError, () => undefined);
  watchdog.start();
  t.after(() => watchdog.end());
  const start = processAdaptor({
    launcher: await Launcher.look(),
    handles: { refusal: () => null },
    watchdog,
    escaped: new EscapedProcesses(session, assert.ifError),
    launches: { began: () => () => undefined },
    orphans: { holdUp: () => null },
    pace: new OutputPace(() => performance.now()),
    nowMs: Date.now,
  });
  const instance = start({
    node: "n1",
    id: "a",
    group: "a.b.1",
    spec: stitchSpec.parse({ adaptor: "process", protocol: "none", command: ["sh", "-c", "sleep 0.5; exit 3"] }),
    dataDir: import.meta.dirname,
    session,
    log: () => null,
    send: () => Promise.reject(new Error("nothing is sent here")),
    reply: () => Promise.reject(new Error("nothing is answered here")),
    onRoom: () => undefined,
    onHealth: () => undefined,
  });
  // Blocks after the program has been watched for a moment, in the callback of a read: due timers run right after that.
  await new Promise((resolve) => setTimeout(resolve, 100));
  readFile(import.meta.filename, () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HELD_MS);
  });
  const started = await instance.started;
  assert.partialDeepStrictEqual(started, { kind: "failed", error: { code: "exited_early" } });
  assert.equal((await instance.exited).code, 3);
});
