import { onEndingSignal } from "../terminal/signals.ts";

const LOOK_EVERY_MS = 1000;

/**
 * Calls `first` when this process is asked to end: by a signal, such as Ctrl-C, or by the npm script that started it
 * being gone (npm ends its shell, which passes nothing on). Calls `again` at a second signal.
 * @returns a function that stops listening.
 */
export function onUpEnd(first: (why: string, byCtrlC: boolean) => void, again: () => void): () => void {
  let called = false;
  const once = (why: string, byCtrlC = false): void => {
    if (called) return;
    called = true;
    first(why, byCtrlC);
  };
  const release = onEndingSignal((signal) => {
    // A second one forces also where the first reason to end was another.
    if (called) again();
    else if (signal === "SIGHUP") once("The terminal was closed: stopping everything.");
    else once("\nStopping everything; once more ends it at once.", signal === "SIGINT");
  }, again);

  const parent = process.ppid;
  const underNpm = process.env["npm_lifecycle_event"] !== undefined;
  const look = setInterval(() => {
    if (underNpm && process.ppid !== parent) once("npm has ended: stopping everything.");
  }, LOOK_EVERY_MS);
  look.unref();
  return () => {
    release();
    clearInterval(look);
  };
}
