import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ProcessRow } from "../../../workers/node/processes/process-table.ts";
import { ProcessTree, type Usage } from "../../../workers/node/processes/process-tree.ts";

/** No process of the machine carries this session. */
const SESSION = "a session of no process";
const ROOT = 100;

const row = (pid: number, parent: number, more: Partial<ProcessRow> = {}): ProcessRow => ({
  pid,
  parent,
  group: ROOT,
  zombie: false,
  memoryBytes: 1,
  cpuMs: 0,
  childrenCpuMs: 0,
  startedAt: pid,
  ...more,
});

/** Measures one stitch on a machine that shows these tables, one per second. */
async function usages(...tables: readonly (readonly ProcessRow[])[]): Promise<(Usage | undefined)[]> {
  let table: readonly ProcessRow[] = [];
  const tree = new ProcessTree(SESSION, () => Promise.resolve([...table]));
  const found: (Usage | undefined)[] = [];
  for (const [second, next] of tables.entries()) {
    table = next;
    found.push((await tree.measure(new Map([["a", ROOT]]), second * 1000))?.get("a"));
  }
  return found;
}

test("a process belongs to a stitch by its group or by descent; what left the group has escaped", async () => {
  const [usage] = await usages([
    row(1, 0, { group: 1 }),
    row(ROOT, 1),
    row(101, ROOT, { memoryBytes: 10 }),
    row(102, 1, { memoryBytes: 100 }),
    row(90, 101, { group: 90, memoryBytes: 1000 }),
    row(80, 90, { group: 90, memoryBytes: 10_000 }),
    row(103, ROOT, { zombie: true }),
    row(104, 1, { group: 104, memoryBytes: 100_000 }),
    row(105, 104, { group: 1, memoryBytes: 100_000 }),
  ]);
  assert.deepEqual(usage, { cpuPercent: null, memoryBytes: 11_111, processes: 5, escaped: [90, 80] });
});

test("if one stitch has started another, a process belongs to the nearest stitch", async () => {
  const rows = [row(ROOT, 1), row(101, ROOT, { group: 101 }), row(102, 101, { group: 102 }), row(103, ROOT)];
  const found = await new ProcessTree(SESSION, () => Promise.resolve(rows)).measure(
    new Map([
      ["a", ROOT],
      ["b", 101],
      ["gone", 104],
    ]),
    0,
  );
  assert.deepEqual(
    [...(found ?? [])].map(([stitch, { processes, escaped }]) => [stitch, processes, escaped]),
    [
      ["a", 2, []],
      ["b", 2, [102]],
      ["gone", 0, []],
    ],
  );
});

test("measures a table with a cycle, which appears if processes come and go while it is read", async () => {
  const [usage] = await usages([row(ROOT, 1), row(101, 102, { group: 5 }), row(102, 101, { group: 5 }), row(103, 103)]);
  assert.equal(usage?.processes, 2);
});

test("CPU is the use since the last pass, by processes that go on, that began and that were waited for", async () => {
  const first = [row(ROOT, 1, { cpuMs: 50, childrenCpuMs: 1000 }), row(101, ROOT, { cpuMs: 300 })];
  const second = [
    // 101 ended at 310. 102 came and went meanwhile, and used 5.
    row(ROOT, 1, { cpuMs: 70, childrenCpuMs: 1315 }),
    row(103, ROOT, { cpuMs: 200 }),
    // Another process that got the number of an earlier one.
    row(104, ROOT, { cpuMs: 400, startedAt: 500 }),
  ];
  const third = [row(ROOT, 1, { cpuMs: 70, childrenCpuMs: 1315 })];
  const [a, b, c] = await usages([...first, row(104, ROOT, { cpuMs: 700, startedAt: 104 })], second, third);
  assert.equal(a?.cpuPercent, null);
  // 20 of its own, 200 of 103, 400 of the new 104. Nobody waited for the old 104, so the other 15 are taken for its time.
  assert.equal(b?.cpuPercent, 62);
  assert.equal(c?.cpuPercent, 0);
  const [, withoutThat] = await usages(first, second);
  assert.equal(withoutThat?.cpuPercent, 63.5);
});

test("a stitch that was started again is measured anew", async () => {
  const tree = new ProcessTree(SESSION, () => Promise.resolve([row(ROOT, 1), row(101, 1, { group: 101, cpuMs: 10 })]));
  const cpu = async (root: number, nowMs: number) =>
    (await tree.measure(new Map([["a", root]]), nowMs))?.get("a")?.cpuPercent;
  assert.deepEqual(
    [await cpu(ROOT, 0), await cpu(ROOT, 1000), await cpu(ROOT, 1000), await cpu(101, 2000), await cpu(101, 3000)],
    [null, 0, null, null, 0],
  );
});

test("if the system shows no processes, reports nothing", async () => {
  assert.equal(await new ProcessTree(SESSION, () => Promise.resolve(null)).measure(new Map([["a", ROOT]]), 0), null);
});

test("a call during a pass gets the result of that pass", async () => {
  let passes = 0;
  const tree = new ProcessTree(SESSION, () => {
    passes++;
    return Promise.resolve([row(ROOT, 1)]);
  });
  const roots = new Map([["a", ROOT]]);
  const [a, b] = await Promise.all([tree.measure(roots, 0), tree.measure(roots, 5)]);
  assert.equal(a, b);
  assert.equal(passes, 1);
  assert.notEqual(await tree.measure(roots, 10), a);
  assert.equal(passes, 2);
});

/**
 * Processes that fork, work and end as in the kernel: a new one gets the lowest free pid, and times go to the parent that
 * waits.
 */
class Machine {
  readonly rows = new Map<number, ProcessRow>([[ROOT, row(ROOT, 1)]]);
  usedMs = 0;
  #starts = 1000;

  pick(n: number): ProcessRow {
    return [...this.rows.values()][n % this.rows.size] as ProcessRow;
  }

  fork(parent: ProcessRow): void {
    let pid = ROOT;
    while (this.rows.has(pid)) pid++;
    this.rows.set(pid, row(pid, parent.pid, { startedAt: this.#starts++ }));
  }

  work(worker: ProcessRow, ms: number): void {
    this.rows.set(worker.pid, { ...worker, cpuMs: worker.cpuMs + ms });
    this.usedMs += ms;
  }

  /** Children of the ended process become children of process 1. */
  end(ended: ProcessRow, waitedFor: boolean): void {
    if (ended.pid === ROOT) return;
    this.rows.delete(ended.pid);
    for (const child of this.rows.values())
      if (child.parent === ended.pid) this.rows.set(child.pid, { ...child, parent: 1 });
    const parent = this.rows.get(ended.parent);
    if (parent === undefined || !waitedFor) return;
    const childrenCpuMs = parent.childrenCpuMs + ended.cpuMs + ended.childrenCpuMs;
    this.rows.set(parent.pid, { ...parent, childrenCpuMs });
  }

  hasChildren({ pid }: ProcessRow): boolean {
    return [...this.rows.values()].some(({ parent }) => parent === pid);
  }
}

type Act = { what: "fork" | "work" | "end" | "pass"; on: number; ms: number; waitedFor: boolean };
const acts: fc.Arbitrary<Act[]> = fc.array(
  fc.record({
    what: fc.constantFrom("fork", "work", "end", "pass"),
    on: fc.nat(30),
    ms: fc.nat(999),
    waitedFor: fc.boolean(),
  }),
  { maxLength: 60 },
);

/**
 * Carries out acts on a machine. With `orderly`, no process ends before its children, and each is waited for.
 * @returns the time used between the first pass and the last, and the time measured.
 */
async function happen(happenings: readonly Act[], orderly: boolean): Promise<{ usedMs: number; measuredMs: number }> {
  const machine = new Machine();
  const tree = new ProcessTree(SESSION, () => Promise.resolve([...machine.rows.values()]));
  let [passes, measuredMs, usedBeforeMs] = [0, 0, 0];
  const pass = async () => {
    const usage = (await tree.measure(new Map([["a", ROOT]]), passes * 1000))?.get("a");
    if (passes++ === 0) usedBeforeMs = machine.usedMs;
    else measuredMs += (usage?.cpuPercent ?? Number.NaN) * 10;
    assert.equal(usage?.processes, machine.rows.size);
    assert.ok(measuredMs <= machine.usedMs - usedBeforeMs + 1e-6, "more than was used");
  };
  await pass();
  for (const { what, on, ms, waitedFor } of happenings) {
    const whom = machine.pick(on);
    if (what === "fork") machine.fork(whom);
    else if (what === "work") machine.work(whom, ms);
    else if (what === "pass") await pass();
    else if (!orderly || !machine.hasChildren(whom)) machine.end(whom, orderly || waitedFor);
  }
  await pass();
  return { usedMs: machine.usedMs - usedBeforeMs, measuredMs: Math.round(measuredMs) };
}

test("if each process waits for its children, no CPU time is lost or counted twice, however short they live", async () => {
  await fc.assert(
    fc.asyncProperty(acts, async (happenings) => {
      const { usedMs, measuredMs } = await happen(happenings, true);
      assert.equal(measuredMs, usedMs);
    }),
    { numRuns: 500 },
  );
});

test("never reports more CPU time than was used, whoever ends and whoever waits", async () => {
  await fc.assert(
    fc.asyncProperty(acts, async (happenings) => {
      await happen(happenings, false);
    }),
    { numRuns: 500 },
  );
});
