import { readFileSync } from "node:fs";
import * as z from "zod";
import { readProcess } from "./process-table.ts";

/** One start of a stitch's program, as the journal keeps it until its process tree is gone. */
export const launch = z.object({
  /** The stitch. */
  id: z.string(),
  pid: z.int(),
  /** The start time in the kernel's count. With the pid and the boot id it names the process for ever: pids are used again. */
  startedAt: z.int(),
  bootId: z.string(),
  /** The session of the worker that started the program. */
  session: z.string(),
});
export type Launch = z.output<typeof launch>;

/** The kernel's boot id; null if the system has none (only Linux has one). */
export function readBootId(): string | null {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}

/** Where launches are kept: see `StitchDisk`. */
type Journal = { saveLaunch(launch: Launch): void; forgetLaunch(launch: Launch): void };

/** Keeps the programs that a worker has started in its journal, for the next run of the worker. */
export class Launches {
  readonly #journal: Journal;
  readonly #session: string;
  readonly #bootId = readBootId();

  constructor(journal: Journal, session: string) {
    this.#journal = journal;
    this.#session = session;
  }

  /**
   * Records a program that was just started and is not reaped yet. Records nothing if the system tells no start time.
   * @returns a function that forgets the program. Call it when the process tree is gone.
   */
  began(id: string, pid: number): () => void {
    const row = readProcess(pid);
    if (row === null || this.#bootId === null) return () => undefined;
    const begun: Launch = { id, pid, startedAt: row.startedAt, bootId: this.#bootId, session: this.#session };
    this.#journal.saveLaunch(begun);
    return () => this.#journal.forgetLaunch(begun);
  }
}
