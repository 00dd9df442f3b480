import { type Advanced, advance, asksForDrain, awaited } from "../../../src/domain/job/advance.ts";
import { type Command, commandOptions } from "../../../src/domain/commands/command.ts";
import { type FoldedJob, foldJob, nodesInDoubt, type Runner } from "../../../src/domain/job/fold.ts";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import {
  type Claim,
  type JobMarks,
  type JobRecord,
  type JobState,
  type Orchestration,
  outcomeKey,
  type StitchStep,
  type Task,
} from "../../../src/domain/job/job.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { deadlineOf, planCommand } from "../../../src/domain/commands/plan.ts";
import { seeDrain } from "../../../src/domain/planning/drain.ts";
import { countWell } from "../../../src/domain/planning/replacement.ts";
import type { Eligibility } from "../../../src/domain/node/node.ts";
import { compareRevisions, formatRevision } from "../../../src/domain/names/revision.ts";
import { tasksToSendAgain } from "../../../src/domain/job/send-again.ts";
import type { Health, StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { needsNewerTombstone, removalOf } from "../../../src/domain/job/tombstone.ts";
import { observed, withStitches } from "./observed.ts";
import { outcome, SimulatedNode, type Temper } from "./simulated-node.ts";

const REVISION = 100;
/** Users command single stitches meanwhile. The revisions of these commands are newer than the job's. */
const FIRST_OF_USERS = 1000;
export const TIMEOUT_MS = 2000;
export const DEADLINE_MS = 30_000;
/** Rounds of a second within which every job must end: its deadline, and the minute after it for cleanup. */
const MOST_ROUNDS = 300;

export type Layout = {
  /** Node → zones. */
  readonly nodes: Readonly<Record<string, readonly string[]>>;
  /** Full ids. */
  readonly stitches: readonly string[];
  /** The group of each stitch that is not of `shop.orders.1`, by full id. */
  readonly groups?: Readonly<Record<string, string>>;
  /** When each stitch turns green that is not green from the start, by full id. */
  readonly greenAtMs?: Readonly<Record<string, number>>;
  /** How each stitch behaves when it is started, by full id; the others are green at once. */
  readonly tempers?: Readonly<Record<string, Temper>>;
};

export const ACTS = [
  "deliver",
  "deliver",
  "work",
  "work",
  "work",
  "load",
  "save",
  "save and die",
  "dispatch",
  "sweep",
  "sweep",
  "die",
  "die in the middle",
  "die before the word",
  "come back",
  "wait",
] as const;
export type Act =
  | (typeof ACTS)[number]
  | "lose the queue"
  | "lose the work"
  | "long wait"
  | "cancel"
  | "user"
  | "user removes"
  | "uncordon";
/** `pick` chooses among the things that the act can be done to. */
export type Turn = { readonly act: Act; readonly pick: number };

type Loaded = { readonly state: JobState; readonly folded: FoldedJob; readonly advanced: Advanced };
/** A task on its way to a node. It is delivered at least once. */
type Sent = { readonly task: Task; active: boolean };

const ELIGIBILITY: Readonly<Record<string, Eligibility>> = { drain: "draining", cordon: "cordoned" };

const isSame = (a: Task, b: Task): boolean => a.id === b.id && a.attempt === b.attempt;

/** One job of many steps in a cluster, with the rules of Redis, of the nodes and of any number of Masters. */
export class SimulatedCluster {
  nowMs = 1000;
  readonly nodes: Map<string, SimulatedNode>;
  readonly command: Command;
  record: JobRecord;
  marks: JobMarks = { cancelledAtMs: null, closed: null };
  readonly #claims: Claim[] = [];
  readonly #steps = new Map<string, StepOutcome>();
  #written = 0;
  readonly #attempts = new Map<string, number | null>();
  #sent: Sent[] = [];
  /** What Masters have read and decided, but not saved yet. */
  #loaded: Loaded[] = [];
  /** The tasks that are saved, but not dispatched yet. */
  #unsent: Task[] = [];
  #userRevision = FIRST_OF_USERS;
  /** Bare ids that users removed. */
  readonly removedByUser = new Set<string>();
  /** Those of `removedByUser` that were removed where they lived, not where they had only arrived. */
  readonly removedForGood = new Set<string>();

  constructor({ nodes, stitches, groups = {}, greenAtMs = {}, tempers = {} }: Layout, command: Command) {
    const temper = (id: string) => tempers[id] ?? "green";
    this.nodes = new Map(Object.entries(nodes).map(([id, zones]) => [id, new SimulatedNode(id, zones, temper)]));
    for (const id of stitches) {
      const { node, stitch } = splitFullId(id);
      const group = groups[id];
      this.#node(node).has(stitch, group === undefined ? {} : { group }, greenAtMs[id]);
    }
    this.command = command;
    const seen = this.observe();
    const plan = planCommand(command, seen);
    if (plan.orchestration === null) throw new Error(`not a command of many steps: ${command.command}`);
    this.record = {
      id: "j1",
      command: command.command,
      target: command.target,
      options: commandOptions(command),
      asked: null,
      reason: null,
      by: null,
      master: "m1",
      revision: REVISION,
      createdAtMs: this.nowMs,
      deadlineAtMs: this.nowMs + deadlineOf(command, plan),
      waitForNode: command.waitForNode,
      tasks: [...plan.tasks],
      orchestration: { ...plan.orchestration, version: 0, ended: null },
      retryOf: null,
      rollbackOf: null,
    };
    const state = this.state();
    this.record = advance(state, foldJob(state, new Map()), {
      nowMs: this.nowMs,
      health: new Map(),
      drain: null,
      well: null,
    }).record;
    this.#unsent = [...this.record.tasks];
  }

  #node(id: string): SimulatedNode {
    const found = this.nodes.get(id);
    if (found === undefined) throw new Error(`no node ${id}`);
    return found;
  }

  /** Adds a node that did not exist when the job began. */
  join(id: string): void {
    this.nodes.set(id, new SimulatedNode(id, [], () => "green"));
  }

  get orchestration(): Orchestration {
    if (this.record.orchestration === null) throw new Error("not of many steps");
    return this.record.orchestration;
  }

  get hasEnded(): boolean {
    return this.marks.closed !== null;
  }

  /** Full ids of the stitches with this bare id that exist and will stay. */
  homesOf(id: string): string[] {
    return [...this.nodes.values()].filter((node) => node.keeps(id)).map((node) => `${node.id}:${id}`);
  }

  /** What Redis says about every stitch. */
  told(): Map<string, StitchRecord> {
    return new Map([...this.nodes.values()].flatMap((node) => [...node.told(this.nowMs)]));
  }

  /** What a Master reads to plan. Until a move has ended, only its old stitch counts for the group. */
  observe(): Observed {
    const records = this.told();
    const settled = new Map([...records].filter(([, { movedFrom }]) => movedFrom === null));
    const { command } = this;
    const onNode = command?.command === "node.drain" ? command.target : null;
    const meant =
      command?.command === "stitch.move"
        ? [...settled].filter(([id]) => id.endsWith(`:${command.target}`))
        : [...(onNode === null ? settled : records)].filter(
            ([id]) => onNode === null || splitFullId(id).node === onNode,
          );
    const stitches = meant.map(([id]) => id).sort();
    return observed({
      nowMs: this.nowMs,
      nodes: [...this.nodes.values()].map((node) => node.asRecord(this.nowMs)),
      ...withStitches(settled),
      homes: withStitches(records).homes ?? new Map(),
      stitches,
      records: new Map(meant),
      firstNumber: 100,
    });
  }

  state(): JobState {
    return {
      record: this.record,
      bodyHash: "",
      marks: this.marks,
      election: null,
      attempts: new Map(this.#attempts),
      outcomes: { claims: [...this.#claims], steps: new Map(this.#steps), stale: new Set() },
      nowMs: this.nowMs,
      written: this.#written,
    };
  }

  #runners(state: JobState): Map<string, Runner> {
    const runners = nodesInDoubt(state).map((id): [string, Runner] => {
      const { alive, incarnation, startedAtMs } = this.#node(id);
      return [id, { liveness: alive ? "alive" : "dead", incarnation, startedAtMs }];
    });
    return new Map(runners);
  }

  fold(state = this.state()): FoldedJob {
    return foldJob(state, this.#runners(state));
  }

  /** What a Master reads and decides at this moment. */
  load(): Loaded {
    const state = this.state();
    const folded = this.fold(state);
    const health = this.health();
    const drain = asksForDrain(this.orchestration, this.nowMs)
      ? seeDrain(this.record, this.orchestration.chains, { timeoutMs: TIMEOUT_MS }, this.observe())
      : null;
    return { state, folded, advanced: advance(state, folded, { nowMs: this.nowMs, health, drain, well: this.well() }) };
  }

  /** How many stitches of the group that takes over have been healthy for long enough. */
  well(): number | null {
    const { replacement } = this.orchestration;
    return replacement === null ? null : countWell(replacement, this.observe());
  }

  /** The health of the stitches that chains wait for. */
  health(): Map<string, Health | null> {
    const records = this.told();
    return new Map(awaited(this.orchestration).map(({ stitch }) => [stitch, records.get(stitch)?.health ?? null]));
  }

  /**
   * Saves if nothing has changed since the load; ends the job if there was nothing to save.
   * @returns the tasks to dispatch.
   */
  save({ state, folded, advanced }: Loaded): readonly Task[] {
    if (this.marks.closed !== null || state.written !== this.#written) return [];
    if (state.record.orchestration?.version !== this.orchestration.version) return [];
    if (advanced.record !== state.record) {
      this.record = advanced.record;
      for (const id of advanced.givenUp) this.#attempts.set(id, null);
      return advanced.tasks;
    }
    if (folded.verdict !== null) this.marks = { ...this.marks, closed: { status: folded.verdict, atMs: this.nowMs } };
    return [];
  }

  /** One round of a Master: advances the job as far as it can, and sends again what nobody has taken up. */
  sweep(): void {
    for (let round = 0; ; round++) {
      if (round > 100) throw new Error("it changes at every look");
      const loaded = this.load();
      this.dispatch(this.save(loaded));
      if (loaded.advanced.record === loaded.state.record) break;
    }
    if (this.hasEnded) return;
    const state = this.state();
    const folded = this.fold(state);
    for (const { task, status } of folded.tasks)
      if (task.runs === "master" && (status === "pending" || status === "running")) this.dispatch([task]);
    const { asTheyAre, asNextAttempt } = tasksToSendAgain(state, folded, this.#runners(state));
    for (const { id, attempt } of asNextAttempt) this.#attempts.set(id, attempt + 1);
    if (asNextAttempt.length > 0) this.#written += 1;
    this.dispatch([...asTheyAre, ...asNextAttempt.map((task) => ({ ...task, attempt: task.attempt + 1 }))]);
  }

  dispatch(tasks: readonly Task[]): void {
    for (const task of tasks) {
      // Steps that chains have not sent yet are shown as tasks, too.
      if (task.refused !== null || task.id.startsWith("ahead.")) continue;
      if (task.runs === "master") this.#carryOut(task);
      else if (!this.#sent.some((sent) => isSame(sent.task, task))) this.#sent.push({ task, active: false });
    }
  }

  #mayClaim(task: Task): boolean {
    if (task.refused !== null || this.marks.closed !== null) return false;
    if ((this.#attempts.has(task.id) ? this.#attempts.get(task.id) : 1) !== task.attempt) return false;
    const isOver = this.marks.cancelledAtMs !== null || this.nowMs >= this.record.deadlineAtMs;
    return !isOver || task.cleanup === true || this.#claims.some((each) => each.task === task.id);
  }

  /** The tasks that have not been carried out and that somebody could take up now. */
  claimable(): Task[] {
    return this.fold()
      .tasks.filter(({ ahead }) => ahead !== true)
      .map(({ task }) => task)
      .filter(
        (task) => this.#mayClaim(task) && task.steps.some((_, index) => !this.#steps.has(outcomeKey(task, index))),
      );
  }

  /** Was the task taken up, or can it still be? */
  mayHaveBegun(id: string): boolean {
    return this.#claims.some(({ task }) => task === id) || this.claimable().some((task) => task.id === id);
  }

  claim(task: Task, incarnation: number): boolean {
    if (!this.#mayClaim(task)) return false;
    const claimed = this.#claims.filter((each) => each.task === task.id && each.attempt === task.attempt);
    if (!claimed.some((each) => each.incarnation === incarnation)) {
      this.#claims.push({ task: task.id, attempt: task.attempt, incarnation, atMs: this.nowMs });
      this.#written += 1;
    }
    return true;
  }

  #write(task: Task, index: number, told: StepOutcome): void {
    const key = outcomeKey(task, index);
    const isStale = this.#claims.some((each) => each.task === task.id && each.attempt > task.attempt);
    if (isStale || this.#steps.has(key)) return;
    this.#steps.set(key, told);
    this.#written += 1;
  }

  #carryOut(task: Task): void {
    if (!this.claim(task, 1)) return;
    const node = this.#node(task.node);
    for (const [index, step] of task.steps.entries()) {
      if (step.action === "remove") this.#write(task, index, this.#removeForAbsent(task, step));
      else {
        // With its wave: a Master that was held up may carry out the first mark again after the last one.
        const revision = { revision: this.record.revision, wave: task.wave };
        const isNewer = compareRevisions(revision, node.eligibilityRevision) >= 0;
        const to = ELIGIBILITY[step.action] ?? "eligible";
        this.#write(
          task,
          index,
          isNewer
            ? outcome("succeeded", node.eligibility !== to)
            : outcome("superseded", false, { code: "superseded", message: "newer" }),
        );
        if (isNewer) [node.eligibility, node.eligibilityRevision] = [to, revision];
      }
    }
  }

  #removeForAbsent(task: Task, step: Extract<StitchStep, { action: "remove" }>): StepOutcome {
    const node = this.#node(task.node);
    const { stitch } = splitFullId(step.stitch);
    const traces = node.traces(stitch);
    const todo = removalOf(step, traces);
    if (todo === "done") return outcome("succeeded", true);
    if (todo === "superseded") return outcome("superseded", false, { code: "superseded", message: "newer" });
    const { movedTo = null, arrivingFrom = null, born = null } = step;
    const own = { revision: this.record.revision, wave: task.wave };
    const revision = formatRevision(
      needsNewerTombstone(step, own, traces) ? { revision: this.#userRevision++, wave: 0 } : own,
    );
    node.tombstones.set(stitch, { revision, movedTo, arrivingFrom, born });
    // If a node is back before the tombstone is written, it is assumed to read the tombstone at once.
    if (node.alive) node.obey(stitch);
    else node.dropped.add(stitch);
    return outcome("succeeded", true);
  }

  /** @returns whether the act could be done. */
  do({ act, pick }: Turn): boolean {
    const of = <T>(all: readonly T[]): T | undefined => all[pick % Math.max(1, all.length)];
    const alive = [...this.nodes.values()].filter((node) => node.alive);
    switch (act) {
      case "deliver":
        return this.#deliver(
          of(this.#sent.filter(({ task, active }) => !active && this.#node(task.node).alive)),
          pick % 3 === 0,
        );
      case "work":
        return this.#work(of(alive.filter(({ work }) => work.length > 0)), pick);
      case "load":
        this.#loaded.push(this.load());
        return true;
      case "save":
      case "save and die": {
        const loaded = of(this.#loaded);
        if (loaded === undefined) return false;
        this.#loaded = this.#loaded.filter((each) => each !== loaded);
        const tasks = this.save(loaded);
        if (act === "save") this.#unsent.push(...tasks);
        return true;
      }
      case "dispatch": {
        const task = of(this.#unsent);
        if (task === undefined) return false;
        this.#unsent = this.#unsent.filter((each) => each !== task);
        this.dispatch([task]);
        return true;
      }
      case "sweep":
        this.sweep();
        return true;
      case "die":
      case "die in the middle":
      case "die before the word":
        return this.#die(of(act === "die" ? alive : alive.filter(({ work }) => work.length > 0)), act);
      case "come back": {
        const node = of([...this.nodes.values()].filter((each) => !each.alive));
        if (node === undefined) return false;
        node.comeBack(this.nowMs, (id) => {
          const { node: on, stitch } = splitFullId(id);
          return this.#node(on).traces(stitch);
        });
        return true;
      }
      case "lose the queue":
        return this.#lose(of(this.#sent)?.task.node);
      case "lose the work": {
        const node = of(alive.filter(({ work }) => work.length > 0));
        if (node !== undefined) node.work = [];
        return this.#lose(node?.id);
      }
      case "wait":
        this.nowMs += 500;
        return true;
      case "long wait":
        this.nowMs += 40_000;
        return true;
      case "cancel":
        if (!this.hasEnded) this.marks = { ...this.marks, cancelledAtMs: this.marks.cancelledAtMs ?? this.nowMs };
        return true;
      case "uncordon": {
        const node = this.nodes.get(this.record.target);
        if (node === undefined) return false;
        node.uncordonedBy = this.#userRevision++;
        [node.eligibility, node.eligibilityRevision] = ["eligible", { revision: node.uncordonedBy, wave: 0 }];
        return true;
      }
      case "user":
      case "user removes":
        return this.#user(of(alive.filter(({ stitches }) => stitches.size > 0)), act === "user removes", pick);
    }
  }

  #deliver(sent: Sent | undefined, again: boolean): boolean {
    if (sent === undefined) return false;
    const node = this.#node(sent.task.node);
    // Delivery is at least once: a task may come again after it was done.
    if (!again) sent.active = true;
    if (!this.claim(sent.task, node.incarnation)) this.#sent = this.#sent.filter((each) => each !== sent);
    else if (!node.work.some(({ task }) => isSame(task, sent.task)))
      node.work.push({ task: sent.task, left: [...sent.task.steps.keys()] });
    return true;
  }

  #work(node: SimulatedNode | undefined, pick: number): boolean {
    const work = node?.work[pick % Math.max(1, node.work.length)];
    if (node === undefined || work === undefined) return false;
    const { task, left } = work;
    const [index] = left.splice(pick % left.length, 1);
    const step = task.steps[index ?? 0];
    if (index === undefined || step === undefined) return false;
    this.#write(task, index, this.#apply(node, task, index, false));
    if (left.length > 0) return true;
    node.work = node.work.filter((each) => each !== work);
    this.#sent = this.#sent.filter((sent) => !isSame(sent.task, task) || !sent.active);
    return true;
  }

  #apply(node: SimulatedNode, task: Task, index: number, interrupted: boolean): StepOutcome {
    const step = task.steps[index];
    if (step === undefined || step.stitch === null) throw new Error("only steps of stitches go to nodes here");
    return node.apply(step, { revision: this.record.revision, wave: task.wave }, this.nowMs, interrupted);
  }

  #die(node: SimulatedNode | undefined, act: Act): boolean {
    if (node === undefined) return false;
    const [work] = node.work;
    // The steps of its current task are done but not reported, cut off, or not begun.
    for (const index of work?.left ?? [])
      if (work !== undefined && act !== "die") this.#apply(node, work.task, index, act === "die in the middle");
    node.die(this.nowMs);
    for (const sent of this.#sent) if (sent.task.node === node.id) sent.active = false;
    return true;
  }

  /** Nothing that is on its way to the node arrives any more. */
  #lose(node: string | undefined): boolean {
    if (node === undefined) return false;
    this.#sent = this.#sent.filter(({ task }) => task.node !== node);
    return true;
  }

  #user(node: SimulatedNode | undefined, removes: boolean, pick: number): boolean {
    const ids = [...(node?.stitches.keys() ?? [])];
    const id = ids[pick % Math.max(1, ids.length)];
    if (node === undefined || id === undefined) return false;
    const action = removes ? "remove" : (["start", "stop", "restart"] as const)[pick % 3];
    if (action === undefined) return false;
    if (removes) this.removedByUser.add(id);
    const step: StitchStep = { action, stitch: `${node.id}:${id}`, timeoutMs: TIMEOUT_MS };
    const isAtHome = node.stitches.get(id)?.record.movedFrom === null;
    const { changed } = node.apply(step, { revision: this.#userRevision++, wave: 0 }, this.nowMs);
    if (removes && isAtHome && changed) this.removedForGood.add(id);
    return true;
  }

  /** Nothing breaks any more, and everyone works until the job has ended. @param check is called after each act. */
  finish(check: () => void = () => undefined, order = 0): void {
    for (let round = 0; !this.hasEnded; round++) {
      if (round > MOST_ROUNDS) throw new Error(`it has not ended after ${MOST_ROUNDS} s`);
      this.sweep();
      check();
      for (let act = 0; this.do({ act: "deliver", pick: 1 + 3 * (act + order) }); act++) check();
      while (this.do({ act: "work", pick: order })) check();
      this.nowMs += 1000;
    }
  }
}
