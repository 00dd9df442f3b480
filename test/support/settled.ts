import { operationsUnderWay } from "../../workers/node/files/bounded-files.ts";

/** After this number of quiet turns of the event loop, no work goes on by itself any more. */
const QUIET_TURNS = 5;

/** Waits until all work is done that waits only for promises, turns of the event loop, and a worker's files. */
export async function settled(): Promise<void> {
  for (let quiet = 0; quiet < QUIET_TURNS; quiet += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (operationsUnderWay() > 0) quiet = -1;
  }
}
