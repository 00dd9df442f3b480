import assert from "node:assert/strict";
import { test } from "node:test";
import { StitchMarks } from "../../../workers/node/processes/stitch-marks.ts";

const row = (pid: number, startedAt: number) => ({
  pid,
  startedAt,
  parent: 1,
  group: pid,
  zombie: false,
  memoryBytes: 1,
  cpuMs: 0,
  childrenCpuMs: 0,
});

/** Processes that show these environments, one after the other. `reads` counts the looks at each process. */
function shown(environments: Readonly<Record<number, readonly string[]>>) {
  const reads = new Map<number, number>();
  const marks = new StitchMarks("s1", (pid) => {
    const read = reads.get(pid) ?? 0;
    reads.set(pid, read + 1);
    return Promise.resolve(environments[pid]?.[read] ?? assert.fail(`looked at ${pid} once too often`));
  });
  return { marks, reads };
}

test("a process belongs to a stitch if it has both marks, exactly as they are", async () => {
  const { marks } = shown({
    1: ["PATH=/bin\0STITCH_SESSION=s1\0STITCH_ID=a\0"],
    2: ["STITCH_ID=b\0STITCH_SESSION=s1"],
    3: ["STITCH_SESSION=s12\0STITCH_ID=a\0"],
    4: ["XSTITCH_SESSION=s1\0STITCH_ID=a\0"],
    5: ["STITCH_SESSION=s1\0XSTITCH_ID=a\0"],
    6: ["TEXT=STITCH_SESSION=s1\nSTITCH_ID=a\0"],
  });
  const found = await marks.stitchesOf([1, 2, 3, 4, 5, 6].map((pid) => row(pid, 7)));
  assert.deepEqual(
    [...found].sort(([a], [b]) => a - b),
    [
      [1, "a"],
      [2, "b"],
    ],
  );
});

test("looks at each process once; a process that got the number of another is another one", async () => {
  const { marks, reads } = shown({ 1: ["STITCH_SESSION=s1\0STITCH_ID=a\0", "HOME=/"], 2: ["HOME=/"] });
  for (let pass = 0; pass < 3; pass++)
    assert.deepEqual([...(await marks.stitchesOf([row(1, 7), row(2, 7)]))], [[1, "a"]]);
  assert.deepEqual([reads.get(1), reads.get(2)], [1, 1]);
  assert.equal((await marks.stitchesOf([row(1, 8), row(2, 7)])).size, 0);
});

test("a process that is just starting shows nothing for a moment, and is looked at again", async () => {
  const { marks, reads } = shown({ 1: ["", "STITCH_SESSION=s1\0STITCH_ID=a\0"], 2: ["", ""] });
  for (let pass = 0; pass < 2; pass++)
    assert.deepEqual([...(await marks.stitchesOf([row(1, 7), row(2, 7)]))], [[1, "a"]]);
  assert.deepEqual([reads.get(1), reads.get(2)], [2, 2]);
});

test("without a session, no process belongs to a stitch", async () => {
  const marks = new StitchMarks("", () => Promise.resolve("STITCH_SESSION=\0STITCH_ID=a\0"));
  assert.equal((await marks.stitchesOf([row(1, 7)])).size, 0);
});

test("a process that never shows its environment delays no other, and is not asked again", async () => {
  let reads = 0;
  const marks = new StitchMarks("s1", (pid) => {
    reads += 1;
    return pid === 1 ? new Promise<string>(() => undefined) : Promise.resolve("STITCH_SESSION=s1\0STITCH_ID=a\0");
  });
  // Keeps the process alive, as a worker does.
  const alive = setTimeout(() => undefined, 60_000);
  for (let pass = 0; pass < 2; pass++)
    assert.deepEqual([...(await marks.stitchesOf([row(1, 7), row(2, 7)]))], [[2, "a"]]);
  clearTimeout(alive);
  assert.equal(reads, 2);
});

test("with several sessions, a process belongs to the one that it carries, even if it names no stitch", async () => {
  const environments = ["STITCH_SESSION=s1\0", "STITCH_ID=a\0STITCH_SESSION=s2", "STITCH_SESSION=s3\0STITCH_ID=b"];
  const marks = new StitchMarks(new Set(["s1", "s2"]), (pid) => Promise.resolve(environments[pid] ?? assert.fail()));
  assert.deepEqual(
    [...(await marks.marksOf([0, 1, 2].map((pid) => row(pid, 7))))],
    [
      [0, { session: "s1", stitch: null }],
      [1, { session: "s2", stitch: "a" }],
    ],
  );
});
