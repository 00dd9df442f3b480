import { readFile } from "node:fs/promises";
import { LATE, orLate, pause } from "../../../src/bounded-wait.ts";
import type { ProcessRow } from "./process-table.ts";

const READ_AT_ONCE = 16;
/** A program that is being started shows no environment for some microseconds. */
const STARTED_WITHIN_MS = 20;
/** One that hangs in the kernel may never show it: it counts as nobody's from then on, and holds up nobody. */
const SHOWN_WITHIN_MS = 1000;
const NOT_SHOWN = "\0";

/** The session that a process carries, and the stitch, where it names one. */
export type Marks = { readonly session: string; readonly stitch: string | null };
type Known = { readonly startedAt: number; readonly marks: Marks | null };

/**
 * Tells by its environment which stitch of a session, or of some, a process was started by, also where it has left its parent and its
 * group. Linux only, and only processes of the same user that have not been started with another environment.
 *
 * Each process is looked at once: 1000 cost 150 ms of CPU, most of it beside the event loop. To read an environment
 * waits for the memory of that process, which may be long where it hangs in the kernel, so it is never done synchronously.
 */
export class StitchMarks {
  readonly #sessions: ReadonlySet<string>;
  readonly #read: (pid: number) => Promise<string>;
  #known = new Map<number, Known>();

  /** @param read the variables of a process, each ended by NUL; nothing where it has none or does not show them. */
  constructor(session: string | ReadonlySet<string>, read = environmentOf) {
    this.#sessions = typeof session === "string" ? new Set(session === "" ? [] : [session]) : session;
    this.#read = read;
  }

  /** The stitch ids of those processes that have one. Forgets all others. */
  async stitchesOf(rows: readonly ProcessRow[]): Promise<Map<number, string>> {
    const marks = await this.marksOf(rows);
    return new Map([...marks].flatMap(([pid, { stitch }]) => (stitch === null ? [] : [[pid, stitch]])));
  }

  /** The marks of those processes that carry a session. Forgets all others. */
  async marksOf(rows: readonly ProcessRow[]): Promise<Map<number, Marks>> {
    const known = new Map<number, Known>();
    // Shared by those who look: each takes the next.
    const left = rows.values();
    const look = async () => {
      for (const { pid, startedAt } of left) {
        const former = this.#known.get(pid);
        known.set(pid, former?.startedAt === startedAt ? former : { startedAt, marks: await this.#marksOf(pid) });
      }
    };
    await Promise.all(Array.from({ length: READ_AT_ONCE }, look));
    this.#known = known;
    return new Map([...known].flatMap(([pid, { marks }]) => (marks === null ? [] : [[pid, marks]])));
  }

  async #marksOf(pid: number): Promise<Marks | null> {
    const read = async () => {
      const shown = await orLate(this.#read(pid), SHOWN_WITHIN_MS);
      return shown === LATE ? NOT_SHOWN : shown;
    };
    let text = await read();
    if (text === "") {
      // What is remembered of it must be what it is, not what it was for a moment.
      await pause(STARTED_WITHIN_MS);
      text = await read();
    }
    const variables = text.split("\0");
    const valueOf = (name: string) => variables.find((variable) => variable.startsWith(name))?.slice(name.length);
    const session = valueOf("STITCH_SESSION=");
    if (session === undefined || !this.#sessions.has(session)) return null;
    return { session, stitch: valueOf("STITCH_ID=") ?? null };
  }
}

/** Nothing of one that is gone, or another user's: it is not ours. */
const environmentOf = (pid: number): Promise<string> => readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
