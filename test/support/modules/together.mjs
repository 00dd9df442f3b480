// A module whose stitches end only together: each stop waits until as many as the component says are to stop.
import { setTimeout as wait } from "node:timers/promises";

let asked = 0;

export const start = () => undefined;

export async function stop({ component }) {
  asked += 1;
  while (asked < Number(component.slice("of-".length))) await wait(20);
}
