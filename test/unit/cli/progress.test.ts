import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { Output } from "../../../src/cli/terminal/output.ts";
import { createProgress } from "../../../src/cli/terminal/progress.ts";
import { job } from "./canned-api.ts";

const counts = { ...job("running").counts, total: 8, running: 1, pending: 3, succeeded: 4 };
const atWave = (wave: number) =>
  job("running", { command: "group.restart", counts, progress: { wave, waves: 4, message: "4 of 8 restarted" } });

/** The text that these looks at a job produce. */
function shown(stderr: PassThrough & { isTTY?: boolean; columns?: number }, looks: readonly ReturnType<typeof job>[]) {
  const progress = createProgress(new Output(new PassThrough(), stderr, false));
  for (const look of looks) progress.show(look);
  progress.end();
  return stripVTControlCharacters(String(stderr.read() ?? ""));
}

test("on a terminal, shows a bar, the wave, counts per node and the API's message, cut to the width", () => {
  const wide = Object.assign(new PassThrough(), { isTTY: true, columns: 100 });
  assert.equal(
    shown(wide, [atWave(2)]),
    "━━━━━━━━━━────────── group.restart  wave 2 of 4  4/8  n1 0/1  4 of 8 restarted",
  );
  const narrow = Object.assign(new PassThrough(), { isTTY: true, columns: 49 });
  assert.equal(shown(narrow, [atWave(2)]), "━━━━━━━━━━────────── group.restart  wave 2 of 4…");
});

test("elsewhere, prints a plain line at each change and none at the end", () => {
  assert.equal(
    shown(new PassThrough(), [atWave(1), atWave(1), atWave(2), job("succeeded")]),
    "running  wave 1 of 4  4/8  n1 0/1  4 of 8 restarted\nrunning  wave 2 of 4  4/8  n1 0/1  4 of 8 restarted\n",
  );
});
