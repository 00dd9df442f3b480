import { pause } from "../../../src/bounded-wait.ts";
import { errorText } from "../../../src/error-text.ts";
import { nearest, tableOf } from "./ancestry.ts";
import { kill } from "./escaped-processes.ts";
import { type Launch, readBootId } from "./launches.ts";
import { type ProcessRow, readProcess, readProcesses } from "./process-table.ts";
import { StitchMarks } from "./stitch-marks.ts";

/** A killed process is gone within milliseconds, or hangs in the kernel: no start of a worker waits longer than this. */
const LIMIT_MS = 2000;
const PAUSE_MS = 20;
/** Pids that one message names. */
const NAMED = 20;

export type OrphansOptions = {
  /** The sessions of earlier runs of this worker. */
  readonly sessions: readonly string[];
  /** The launches of those sessions in the journal. */
  readonly launches: readonly Launch[];
  /** Is that launch to be left alone, with all its processes? */
  readonly spare: (launch: Launch) => boolean;
  /** Called with messages about the processes that were ended, and those that cannot be ended. */
  readonly say: (message: string) => void;
  readonly bootId?: string | null;
  readonly read?: typeof readProcesses;
  /** Kills a process unless it is gone. @throws if this worker may not kill it. */
  readonly kill?: (row: ProcessRow) => void;
};

type Orphan = {
  readonly row: ProcessRow;
  readonly session: string;
  /** null if its environment does not name one. */
  readonly stitch: string | null;
  readonly launch: Launch | null;
};
type Found = Omit<Orphan, "row">;
/** `refusal`: why it could not be killed; null if it was killed and is still there. */
type Left = Orphan & { readonly refusal: string | null };

/**
 * Ends the processes of earlier runs of the worker. The watchdog does that when a worker dies. If both were killed, their
 * stitches run on, and would share their data folders with the stitches that the next run of the worker starts.
 *
 * A process is an orphan if it carries a former session in its environment or is a launch of the journal, if it is in the
 * process group of an orphan, or if it descends from one. Linux only: other systems show neither the environment nor the
 * start time, and the pid alone may belong to an unrelated process by now.
 */
export class Orphans {
  readonly #options: OrphansOptions;
  readonly #bootId: string | null;
  readonly #marks: StitchMarks;
  #left: readonly Left[] = [];
  #ending: Promise<void> | null = null;

  constructor(options: OrphansOptions) {
    this.#options = options;
    this.#bootId = options.bootId === undefined ? readBootId() : options.bootId;
    this.#marks = new StitchMarks(new Set(options.sessions));
  }

  /** Kills all orphans and waits until they are gone, within a bound. A call meanwhile gets the same result. */
  end(): Promise<void> {
    this.#ending ??= this.#end().finally(() => (this.#ending = null));
    return this.#ending;
  }

  async #end(): Promise<void> {
    const { sessions, launches, say } = this.#options;
    if (this.#bootId === null || (sessions.length === 0 && launches.length === 0)) return;
    const killed = new Set<number>();
    const untilMs = performance.now() + LIMIT_MS;
    // A killed process may have started another one meanwhile, so the search is repeated after the last kill.
    for (;;) {
      const found = await this.#look(this.#bootId);
      this.#left = found.map((orphan) => ({ ...orphan, refusal: this.#kill(orphan.row) }));
      const dying = this.#left.filter(({ refusal }) => refusal === null);
      for (const { row } of dying) killed.add(row.pid);
      if (dying.length === 0 || performance.now() > untilMs) break;
      await pause(PAUSE_MS);
    }
    for (const { row } of this.#left) killed.delete(row.pid);
    if (killed.size > 0)
      say(`ended ${killed.size} processes that a former worker of this node had left: ${named([...killed])}`);
    for (const orphan of this.#left) say(reasonOf(orphan));
  }

  /** @returns why the process could not be killed; null if it was killed. */
  #kill(row: ProcessRow): string | null {
    try {
      (this.#options.kill ?? kill)(row);
      return null;
    } catch (error) {
      return errorText(error);
    }
  }

  /** Checks the processes again that could not be ended. @returns whether some have ended. Call this from time to time. */
  async retry(): Promise<boolean> {
    const before = this.#left;
    if (before.length === 0 || this.#ending !== null) return false;
    const isChanged = ({ row, refusal }: Left) => !isThere(row) || (refusal !== null && this.#kill(row) === null);
    // A search reads every process of the machine; a check of the known processes costs almost nothing.
    if (!before.some(isChanged)) return false;
    await this.end();
    return this.#left.length < before.length;
  }

  /** Why this stitch must not be started; null if nothing is left of its earlier starts. */
  holdUp(stitch: string): string | null {
    const orphan = this.#left.find((one) => one.stitch === stitch);
    return orphan === undefined ? null : reasonOf(orphan);
  }

  /** The former sessions that still have processes. */
  get sessions(): ReadonlySet<string> {
    const { launches, spare } = this.#options;
    return new Set([...this.#left, ...launches.filter(spare)].map(({ session }) => session));
  }

  /** The former launches that have no processes left. */
  get ended(): Launch[] {
    const left = new Set(this.#left.map(({ launch }) => launch));
    return this.#options.launches.filter((launch) => !left.has(launch) && !this.#options.spare(launch));
  }

  async #look(bootId: string): Promise<Orphan[]> {
    const rows = (await (this.#options.read ?? readProcesses)()) ?? [];
    const table = tableOf(rows);
    const launches = new Map(
      this.#options.launches
        // If the leader is gone, its group may still exist: no new process gets the number of an existing group.
        .filter(
          ({ bootId: its, pid, startedAt }) => its === bootId && (table.get(pid)?.startedAt ?? startedAt) === startedAt,
        )
        .map((launch) => [launch.pid, { session: launch.session, stitch: launch.id, launch }] as const),
    );
    const launched = ({ pid, group, startedAt }: ProcessRow): Found | undefined => {
      const found = launches.get(pid) ?? launches.get(group);
      return found !== undefined && startedAt >= found.launch.startedAt ? found : undefined;
    };
    const own = table.get(process.pid);
    const ownLine = new Set<number>();
    for (let at = own; at !== undefined && !ownLine.has(at.pid); at = table.get(at.parent)) ownLine.add(at.pid);

    const byDescent = nearest(table, launched);
    const marked = new Map<number, Found>();
    // 0: the group is not visible to this worker.
    const groups = new Map<number, Found>();
    for (const [pid, marks] of await this.#marks.marksOf(rows.filter((row) => byDescent(row) === undefined))) {
      const found = { ...marks, launch: null };
      const group = table.get(pid)?.group ?? 0;
      marked.set(pid, found);
      if (group !== 0 && group !== own?.group) groups.set(group, found);
    }
    const foundOf = nearest(table, (row): Found | "own" | undefined =>
      ownLine.has(row.pid) ? "own" : (launched(row) ?? marked.get(row.pid) ?? groups.get(row.group)),
    );
    return rows.flatMap((row) => {
      const found = foundOf(row);
      return found === undefined || found === "own" || row.zombie || this.#isSpared(found) ? [] : [{ row, ...found }];
    });
  }

  #isSpared({ session, stitch, launch }: Found): boolean {
    const { launches, spare } = this.#options;
    if (launch !== null) return spare(launch);
    return launches.some((one) => one.session === session && one.id === stitch && spare(one));
  }
}

const isThere = ({ pid, startedAt }: ProcessRow): boolean => {
  const now = readProcess(pid);
  return now !== null && now.startedAt === startedAt && !now.zombie;
};

const named = (pids: readonly number[]): string =>
  pids.slice(0, NAMED).join(", ") + (pids.length > NAMED ? " and more" : "");

const reasonOf = ({ row, stitch, refusal }: Left): string =>
  `process ${row.pid}, which a former worker of this node started${stitch === null ? "" : ` for ${stitch}`}, ` +
  `cannot be ended (${refusal ?? "it was killed, and is still there"}); ` +
  (stitch === null ? "end it" : "end it, and the node starts the stitch");
