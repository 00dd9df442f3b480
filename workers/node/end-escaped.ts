import { nearest, tableOf } from "./ancestry.ts";
import { type ProcessRow, readProcess, readProcesses } from "./process-table.ts";
import { StitchMarks } from "./stitch-marks.ts";

/** What is killed may have started something meanwhile, so there is another look until one finds nothing new. */
const MAX_LOOKS = 10;

/**
 * Kills every process that carries the marks of a stitch or descends from one that does, in its group or out of it: for a
 * stitch that has been ended, or is about to be started. A process that could not be killed is told to `onError`. Linux
 * only. Safe to repeat.
 * @returns the pids of what it found.
 */
export async function endEscaped(
  session: string,
  stitchId: string,
  onError: (error: unknown) => void = () => undefined,
): Promise<number[]> {
  const marks = new StitchMarks(session);
  const found = new Map<number, number>();
  for (let look = 0; look < MAX_LOOKS; look++) {
    const rows = (await readProcesses()) ?? [];
    const marked = await marks.stitchesOf(rows);
    const stitchOf = nearest(tableOf(rows), ({ pid }) => marked.get(pid));
    const fresh = rows.filter(
      (row) =>
        row.pid !== process.pid && !row.zombie && found.get(row.pid) !== row.startedAt && stitchOf(row) === stitchId,
    );
    if (fresh.length === 0) break;
    for (const row of fresh) {
      found.set(row.pid, row.startedAt);
      try {
        kill(row);
      } catch (cause) {
        onError(
          new Error(`process ${row.pid}, which the stitch ${stitchId} left behind, could not be killed`, { cause }),
        );
      }
    }
  }
  return [...found.keys()];
}

/** Kills a process that was seen before, unless it is gone; its number may be another's by now. @throws where it may not. */
export function kill({ pid, startedAt }: ProcessRow): void {
  if (readProcess(pid)?.startedAt !== startedAt) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
