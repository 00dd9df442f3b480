// A module whose stitches end together only: the stop of each waits until so many, as its component says, are to stop.
import { setTimeout as wait } from "node:timers/promises";

let asked = 0;

export const start = () => undefined;

export async function stop({ component }) {
  asked += 1;
  while (asked < Number(component.slice("of-".length))) await wait(20);
}
