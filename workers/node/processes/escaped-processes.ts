import { pause } from "../../../src/bounded-wait.ts";
import { errorCode } from "../../../src/error-text.ts";
import { nearest, tableOf } from "./ancestry.ts";
import { type ProcessRow, readProcess, readProcesses } from "./process-table.ts";
import { StitchMarks } from "./stitch-marks.ts";

/** A killed process may have started another one meanwhile, so the search is repeated until it finds nothing new. */
const MAX_LOOKS = 10;
/** From the end of one search to the next. A stitch that ends alone does not wait. */
const GATHER_MS = 50;

/** The pids that were found: killed, or refused because the process belongs to another user. */
export type Escaped = { readonly killed: number[]; readonly refused: number[] };
type SearchRequest = { readonly found: Escaped; readonly isDue: () => boolean };

/**
 * Finds and kills the processes that a stitch left behind: processes that left its process group, but carry its marks in
 * their environment or descend from a process that does. Linux only; elsewhere it finds nothing.
 *
 * A search reads the processes of the machine, so stitches that end together share one: stopping five
 * hundred stitches must not read the machine five hundred times. The leaders of running stitches are
 * left out: they are most of what runs on a node.
 */
export class EscapedProcesses {
  readonly #marks: StitchMarks;
  readonly #onError: (error: unknown) => void;
  readonly #read: typeof readProcesses;
  readonly #leaders = new Set<number>();
  #asked = new Map<string, SearchRequest>();
  #next: Promise<void> | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(session: string, onError: (error: unknown) => void, read = readProcesses) {
    this.#marks = new StitchMarks(session);
    this.#onError = onError;
    this.#read = read;
  }

  /** `pid` leads the process group of a stitch, so no stitch left it behind. No other process has this pid until `ended`. */
  leads(pid: number, ended: Promise<unknown>): void {
    this.#leaders.add(pid);
    void ended.then(() => this.#leaders.delete(pid));
  }

  /**
   * Kills the processes that are left of a stitch that has ended. Never rejects; safe to repeat.
   * @param isDue called before each kill, after the input that came before the process was seen has been handled.
   */
  async end(stitch: string, isDue: () => boolean = () => true): Promise<Escaped> {
    const found = this.#asked.get(stitch)?.found ?? { killed: [], refused: [] };
    this.#asked.set(stitch, { found, isDue });
    // The search in progress may have passed these processes already, so this request is for the next search.
    this.#next ??= this.#running.then(() => this.#look());
    await this.#next;
    return found;
  }

  async #look(): Promise<void> {
    const asked = this.#asked;
    this.#asked = new Map();
    this.#next = null;
    const looking = this.#end(asked).catch(this.#onError);
    this.#running = looking.then(() => pause(GATHER_MS));
    await looking;
  }

  async #end(asked: ReadonlyMap<string, SearchRequest>): Promise<void> {
    const found = new Map<number, number>();
    for (let look = 0; look < MAX_LOOKS; look++) {
      const rows = (await this.#read(this.#leaders)) ?? [];
      const marked = await this.#marks.stitchesOf(rows);
      const stitchOf = nearest(tableOf(rows), ({ pid }) => marked.get(pid));
      await new Promise((resolve) => setImmediate(resolve));
      let fresh = 0;
      for (const row of rows) {
        const { pid, startedAt } = row;
        const by = asked.get(stitchOf(row) ?? "");
        if (by === undefined || pid === process.pid || row.zombie || found.get(pid) === startedAt || !by.isDue())
          continue;
        found.set(pid, startedAt);
        fresh += 1;
        try {
          kill(row);
          by.found.killed.push(pid);
        } catch (cause) {
          by.found.refused.push(pid);
          this.#onError(
            new Error(`process ${pid}, which the stitch ${stitchOf(row)} left behind, could not be killed`, { cause }),
          );
        }
      }
      if (fresh === 0) return;
    }
  }
}

/**
 * Kills a process that was seen before, unless it is gone; another
 * process may have its pid now. @throws if this worker may not kill it.
 */
export function kill({ pid, startedAt }: ProcessRow): void {
  if (readProcess(pid)?.startedAt !== startedAt) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}
