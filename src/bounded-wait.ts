/** The result of a wait that ran out of time. */
export const LATE = Symbol("late");

/**
 * Waits for `work`, at most `ms`. No timer is left. Work that is late goes on; if it fails later, the error is ignored.
 * @returns what `work` resolves to, or `LATE`.
 * @throws what `work` throws in time.
 */
export async function orLate<T>(work: Promise<T>, ms: number): Promise<T | typeof LATE> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(() => resolve(LATE), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Like `orLate`. @throws an error with this message if the work takes longer than `ms`. */
export async function within<T>(ms: number, work: Promise<T>, message = `took longer than ${ms} ms`): Promise<T> {
  const outcome = await orLate(work, ms);
  if (outcome === LATE) throw new Error(message);
  return outcome;
}

/** Resolves after `ms`, or as soon as the signal aborts. No timer is left. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
    if (signal?.aborted === true) done();
  });
}
