// The signals that ask a process to end, in one place. Plain JavaScript without dependencies: the launcher and the bootstrap
// read it too, under an older Node.
import { constants } from "node:os";
import { basename } from "node:path";

/** Ctrl-C, a request, a terminal that was closed (an ssh session that ends), Ctrl-\. Each leaves time to end in good order. */
export const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];

/** What a process ends with that such a signal has ended. */
export const codeOfSignal = (signal) => 128 + constants.signals[signal];

/**
 * Was this process started to outlive its terminal (`nohup`)? Node undoes at its start what `nohup` has done, so what
 * /proc/self/status says of SIGHUP is no help; bash and zsh say in `_` which program they started.
 */
export const outlivesTerminal = (env = process.env) => basename(env._ ?? "") === "nohup";

/**
 * Calls `listen` at each of the signals, however often; but where the process is to outlive its terminal, SIGHUP does nothing.
 * @returns a function that gives the signals back to their default; SIGHUP, where it does nothing, stays so.
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
