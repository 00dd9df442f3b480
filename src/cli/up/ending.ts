import { onEndingSignal } from "../signals.ts";

const LOOK_EVERY_MS = 1000;

/**
 * Calls `first` when this process is asked to end: Ctrl-C, SIGTERM, the terminal closed, or the npm script that started it
 * gone (npm ends its shell, which passes nothing on). Calls `again` at a second Ctrl-C or SIGTERM.
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
    else once("\nStopping everything; once more ends it at once.", signal === "SIGINT");
  }, again);
  const hangUp = (): void => once("The terminal was closed: stopping everything.");
  process.on("SIGHUP", hangUp);

  const parent = process.ppid;
  const underNpm = process.env["npm_lifecycle_event"] !== undefined;
  const look = setInterval(() => {
    if (underNpm && process.ppid !== parent) once("npm has ended: stopping everything.");
  }, LOOK_EVERY_MS);
  look.unref();
  return () => {
    release();
    process.removeListener("SIGHUP", hangUp);
    clearInterval(look);
  };
}
