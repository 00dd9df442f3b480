import { pause } from "../../../src/bounded-wait.ts";
import { errorCode } from "../../../src/error-text.ts";
import { readProcesses } from "./process-table.ts";

/** How often a killed process group is checked, until the kernel has removed it. */
const GONE_POLL_MS = 10;
/** How long a killed process may take to end. */
export const GONE_LIMIT_MS = 5000;

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

/**
 * Resolves when the kernel has removed a process group. Kills the rest of the group as soon as `killIsDue`, and is bounded
 * from then on: if nobody reaps orphans (a container without an init), a dead process stays listed for ever, and a process
 * of another user cannot be ended from here.
 */
export async function groupGone(pid: number, killIsDue: () => boolean): Promise<void> {
  for (let killedForMs = 0; killedForMs < GONE_LIMIT_MS; ) {
    const kill = killIsDue();
    const sent = signalGroup(pid, kill ? "SIGKILL" : 0);
    if (sent === "gone" || (sent === "refused" && kill)) return;
    await pause(GONE_POLL_MS);
    if (kill) killedForMs += GONE_POLL_MS;
  }
}
