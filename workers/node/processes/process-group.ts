import { errorCode } from "../../../src/error-text.ts";
import { readProcesses } from "./process-table.ts";

/** What became of a signal to a process group: `refused` where all that is left of the group is another user's. */
export type Sent = "sent" | "gone" | "refused";

/** Sends a signal to a process group; 0 asks only. */
export const signalGroup = (group: number, signal: NodeJS.Signals | 0): Sent => send(-group, signal);

function send(to: number, signal: NodeJS.Signals | 0): Sent {
  try {
    process.kill(to, signal);
    return "sent";
  } catch (error) {
    const code = errorCode(error);
    if (code === "ESRCH") return "gone";
    if (code === "EPERM") return "refused";
    throw error;
  }
}

/**
 * The processes of a group that was killed: those that are another user's, and those that are still there all the same. One
 * that has ended and is waited for by nobody is neither. Reads the processes of the machine only where the group is there.
 */
export async function whatIsLeft(group: number): Promise<{ others: number[]; killed: number[] }> {
  const left = { others: [] as number[], killed: [] as number[] };
  if (signalGroup(group, 0) === "gone") return left;
  for (const row of (await readProcesses()) ?? []) {
    if (row.group !== group || row.zombie) continue;
    const sent = send(row.pid, 0);
    if (sent === "refused") left.others.push(row.pid);
    if (sent === "sent") left.killed.push(row.pid);
  }
  return left;
}
