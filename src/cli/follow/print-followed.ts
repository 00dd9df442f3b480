import type { ClientContext } from "../calls/client-action.ts";
import { EXIT, type ExitCode } from "../terminal/exit-code.ts";
import { Interrupted } from "../terminal/interrupted.ts";
import { onReaderGone } from "../terminal/reader-gone.ts";

/**
 * Prints the followed items, one per line, until Ctrl-C, or until nobody reads stdout any more.
 * @throws any other error that ends the following.
 */
export async function printFollowed<T>(
  { output, signal }: Pick<ClientContext, "output" | "signal">,
  follow: (signal: AbortSignal) => AsyncIterable<T>,
  lineOf: (item: T) => string,
): Promise<ExitCode> {
  const readerGone = new AbortController();
  const stop = (): void => readerGone.abort();
  const release = onReaderGone(stop);
  // A failed write also shows that the reader is gone; and on a full disk there is no reason to follow.
  process.stdout.on("error", stop);
  try {
    for await (const item of follow(AbortSignal.any([signal, readerGone.signal]))) {
      if (output.json) output.body(item);
      else output.print(lineOf(item));
    }
  } catch (error) {
    if (readerGone.signal.aborted) return EXIT.done;
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    release();
    process.stdout.removeListener("error", stop);
  }
  return EXIT.interrupted;
}
