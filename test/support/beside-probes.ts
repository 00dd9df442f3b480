/**
 * Asks an API for something that needs no Redis, again and again, until `work` is done. The slowest answer shows what the
 * machine and the client take at this moment: a limit for `work` may grow by it.
 * @param atOnce how many requests `work` makes at once. There are as many probes, so that they wait for each other as those do.
 */
export async function besideProbes<T>(
  url: string,
  atOnce: number,
  work: Promise<T>,
): Promise<{ done: T; slowestMs: number }> {
  let slowestMs = 0;
  let isDone = false;
  const one = async () => {
    const startedAtMs = performance.now();
    await (await fetch(`${url}/livez`)).arrayBuffer();
    slowestMs = Math.max(slowestMs, performance.now() - startedAtMs);
  };
  const probe = async () => {
    while (!isDone) {
      await Promise.all(Array.from({ length: atOnce }, one));
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const probing = probe();
  try {
    return { done: await work, slowestMs };
  } finally {
    isDone = true;
    await probing;
  }
}
