import { errorCode } from "../../../src/error-text.ts";
import { readProcesses } from "./process-table.ts";

/** The result of a signal to a process group. `refused`: only processes of another user are left in the group. */
export type Sent = "sent" | "gone" | "refused";

/** Sends a signal to a process group; 0 only checks whether the group is there. */
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
 * The processes that are left of a killed group: those of another user, and those that are still there
 * although they were killed. A process that has ended but was not reaped counts as neither. Reads the
 * machine's processes only if the group exists.
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
