/**
 * Asks an API for something that needs no Redis, again and again, until `work` is done. What that takes at most is what the
 * machine and the client take at this moment: a limit for `work` may grow by it.
 */
export async function besideProbes<T>(url: string, work: Promise<T>): Promise<{ done: T; slowestMs: number }> {
  let slowestMs = 0;
  let isDone = false;
  const probe = async () => {
    while (!isDone) {
      const startedAtMs = performance.now();
      await (await fetch(`${url}/livez`)).arrayBuffer();
      slowestMs = Math.max(slowestMs, performance.now() - startedAtMs);
      await new Promise((resolve) => setTimeout(resolve, 20));
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
