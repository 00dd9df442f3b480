import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { FilePlaces } from "../../../workers/node/files/bounded-files.ts";
import { settled } from "../../support/settled.ts";

const MODULE = pathToFileURL(join(import.meta.dirname, "../../../workers/node/files/bounded-files.ts")).href;

test("runs no more operations at once than it has places; the others follow in order, even after a failure", async () => {
  const places = new FilePlaces(2);
  const begun: number[] = [];
  const ends = Array.from({ length: 6 }, () => Promise.withResolvers<number>());
  const all = ends.map(({ promise }, index) =>
    places.run(() => {
      begun.push(index);
      return promise;
    }),
  );
  const outcomes = Promise.allSettled(all);
  await Promise.resolve();
  assert.deepEqual(begun, [0, 1]);
  ends[1]?.reject(new Error("no room"));
  ends[0]?.resolve(0);
  await assert.rejects(all[1] ?? assert.fail(), /no room/);
  assert.equal(await all[0], 0);
  assert.deepEqual(begun, [0, 1, 2, 3]);
  for (const [index, end] of ends.entries()) end.resolve(index);
  assert.deepEqual(
    (await outcomes).map(({ status }) => status),
    ["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled", "fulfilled"],
  );
  assert.deepEqual(begun, [0, 1, 2, 3, 4, 5]);
  await settled();
  assert.equal(await places.run(() => Promise.resolve("free")), "free");
});

test("a process ends with its code although files hang, and other threads stay free meanwhile", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const pipe = join(dir, "pipe");
  execFileSync("mkfifo", [pipe]);
  // To open a pipe that nobody writes to hangs. More operations ask for that than may hang at once.
  const program = `
    import { DATA_FOLDERS, LOG_FILES, STATE_FILES, useManyThreads } from ${JSON.stringify(MODULE)};
    import { lstat, open } from "node:fs/promises";
    useManyThreads();
    for (let n = 0; n < 10; n++) for (const files of [DATA_FOLDERS, LOG_FILES]) void files.open(${JSON.stringify(pipe)}, 0);
    void STATE_FILES.run(() => open(${JSON.stringify(pipe)}));
    setTimeout(async () => {
      await lstat("/");
      process.stdout.write("answered");
      process.exit(7);
    }, 1000);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  let said = "";
  child.stdout.on("data", (text: Buffer) => (said += text.toString()));
  assert.deepEqual(await once(child, "close"), [7, null]);
  assert.equal(said, "answered");
});

test("keeps a bounded number of operations that wait for a hanging file, and refuses more", async () => {
  const places = new FilePlaces(1);
  const hung = Promise.withResolvers<void>();
  const first = places.run(() => hung.promise);
  let done = 0;
  const others = Array.from({ length: 20_000 }, () => places.run(async () => void (done += 1)));
  await assert.rejects(
    places.run(() => Promise.resolve()),
    /20000 operations wait for files/,
  );
  hung.resolve();
  await Promise.all([first, ...others]);
  assert.equal(done, 20_000);
  assert.equal(await places.run(() => Promise.resolve("free")), "free");
});
