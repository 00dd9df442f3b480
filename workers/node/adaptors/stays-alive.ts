/** A program that is alive after this time counts as running (http.md, "When a step has succeeded"). */
export const ALIVE_AFTER_MS = 1000;
/** How often a start that has not become its program yet is checked. */
const UNDER_WAY_POLL_MS = 250;

/**
 * Waits until a program has lived for a while.
 * @param isUnderWay has the process not become its program yet?
 * @returns `up` resolves then; `cancel` ends the wait, and leaves no timer.
 */
export function staysAlive(isUnderWay: () => boolean): { up: Promise<void>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const up = new Promise<void>((resolve) => {
    const after = (ms: number, look: () => void) => {
      // If the event loop was blocked, an exit may wait to be handled: in a turn of the loop, timers come before it.
      timer = setTimeout(() => setImmediate(look), ms);
    };
    const untilLaunched = () => {
      if (isUnderWay()) after(UNDER_WAY_POLL_MS, untilLaunched);
      // It is unknown since when the process is the program, so its time begins here.
      else after(ALIVE_AFTER_MS, resolve);
    };
    after(ALIVE_AFTER_MS, () => (isUnderWay() ? untilLaunched() : resolve()));
  });
  return { up, cancel: () => clearTimeout(timer) };
}
