import { operationsUnderWay } from "../../workers/node/files/bounded-files.ts";

/** Turns of the event loop after which nothing goes on by itself any more. */
const QUIET_TURNS = 5;

/** Lets everything go on that waits for nothing but promises, turns of the event loop, and a worker's files. */
export async function settled(): Promise<void> {
  for (let quiet = 0; quiet < QUIET_TURNS; quiet += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (operationsUnderWay() > 0) quiet = -1;
  }
}
