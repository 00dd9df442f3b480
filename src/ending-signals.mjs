// The signals that ask a process to end, in one place. Plain JavaScript without dependencies: the launcher and the bootstrap
// read it too, under an older Node.
import { constants } from "node:os";
import { basename } from "node:path";

/** Ctrl-C, a request, a terminal that was closed (an ssh session that ends), Ctrl-\. Each leaves time to end in good order. */
export const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];

/** The exit code of a process that this signal has ended. */
export const codeOfSignal = (signal) => 128 + constants.signals[signal];

/**
 * Was this process started to outlive its terminal (`nohup`)? Node undoes at its start what `nohup` has done, so
 * /proc/self/status does not show it for SIGHUP. bash and zsh put the program that they started into `_`.
 */
export const outlivesTerminal = (env = process.env) => basename(env._ ?? "") === "nohup";

/**
 * Calls `listen` at each of the signals, each time. If the process must outlive its terminal, SIGHUP does nothing.
 * @returns a function that gives the signals back to their default. An ignored SIGHUP stays ignored.
 */
export function onEndingSignals(listen) {
  const ignored = outlivesTerminal() ? ["SIGHUP"] : [];
  for (const signal of ignored) process.on(signal, () => undefined);
  const heeded = ENDING_SIGNALS.filter((signal) => !ignored.includes(signal));
  for (const signal of heeded) process.on(signal, listen);
  return () => {
    for (const signal of heeded) process.removeListener(signal, listen);
  };
}
