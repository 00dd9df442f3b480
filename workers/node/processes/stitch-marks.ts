import { readFile } from "node:fs/promises";
import { LATE, orLate, pause } from "../../../src/bounded-wait.ts";
import type { ProcessRow } from "./process-table.ts";

const READ_AT_ONCE = 16;
/** A program that is being started shows no environment for some microseconds. */
const STARTED_WITHIN_MS = 20;
/**
 * A process that hangs in the kernel may never show it. After this
 * time it counts as no stitch's process, and holds up nothing.
 */
const SHOWN_WITHIN_MS = 1000;
const NOT_SHOWN = "\0";

/** The session that a process carries, and the stitch if it names one. */
export type Marks = { readonly session: string; readonly stitch: string | null };
type Known = { readonly startedAt: number; readonly marks: Marks | null };

/**
 * Finds out from a process's environment which stitch of one or more sessions started it, even if the process has left its
 * parent and its group. Linux only, and only processes of the same user that were not started with another environment.
 *
 * Each process is read once: 1000 processes cost 150 ms of CPU, most of it outside of the event loop.
 * Reading an environment waits for the memory of that process, which may take long if the process
 * hangs in the kernel. So it is never done synchronously.
 */
export class StitchMarks {
  readonly #sessions: ReadonlySet<string>;
  readonly #read: (pid: number) => Promise<string>;
  #known = new Map<number, Known>();

  /** @param read returns the variables of a process, each ended by NUL; empty if it has none or does not show them. */
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
    // All readers share this iterator: each takes the next process.
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
      // The remembered marks must be those of the program, not those of the moment of its start.
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

/** Empty if the process is gone or belongs to another user: it is not ours. */
const environmentOf = (pid: number): Promise<string> => readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
