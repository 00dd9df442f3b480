import { pause } from "../../../src/bounded-wait.ts";
import { errorCode } from "../../../src/error-text.ts";
import { nearest, tableOf } from "./ancestry.ts";
import { type ProcessRow, readProcess, readProcesses } from "./process-table.ts";
import { StitchMarks } from "./stitch-marks.ts";

/** What is killed may have started something meanwhile, so there is another look until one finds nothing new. */
const MAX_LOOKS = 10;
/** From the end of one look to the next. A stitch that ends alone waits for nothing. */
const GATHER_MS = 50;

/** The pids of what was found: killed, or another user's and so not this worker's to end. */
export type Escaped = { readonly killed: number[]; readonly refused: number[] };
type SearchRequest = { readonly found: Escaped; readonly isDue: () => boolean };

/**
 * Finds and kills what a stitch left behind: processes that left its process group but carry its marks in their
 * environment or descend from one that does. Linux only; elsewhere it finds nothing.
 *
 * A look reads the processes of the machine, so stitches that end together share one: stopping five hundred must not read
 * the machine five hundred times. The leaders of stitches that run are left out: they are most of what runs on a node.
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

  /** `pid` leads the process group of a stitch, and is left behind by none: until it has ended, its number is its own. */
  leads(pid: number, ended: Promise<unknown>): void {
    this.#leaders.add(pid);
    void ended.then(() => this.#leaders.delete(pid));
  }

  /**
   * Kills what is left of a stitch that has ended. Never rejects; safe to repeat.
   * @param isDue asked before anything is killed, when what had come in before it was seen has been taken up.
   */
  async end(stitch: string, isDue: () => boolean = () => true): Promise<Escaped> {
    const found = this.#asked.get(stitch)?.found ?? { killed: [], refused: [] };
    this.#asked.set(stitch, { found, isDue });
    // A look under way may have passed by already: this one is for the next.
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

/** Kills a process that was seen before, unless it is gone; its number may be another's by now. @throws where it may not. */
export function kill({ pid, startedAt }: ProcessRow): void {
  if (readProcess(pid)?.startedAt !== startedAt) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}
