import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Redis } from "ioredis";

const BATCH = 500;

/**
 * A durable request and reply over two Redis streams with nothing around them. This process adds the requests. A group in
 * another process reads them in batches, answers, acknowledges and deletes them. This process reads, acknowledges and deletes
 * the answers.
 */
export async function rawStreams(
  redisUrl: string,
): Promise<{ run: () => Promise<unknown>; stop: () => Promise<void> }> {
  const { port } = new URL(redisUrl);
  const child = fork(join(import.meta.dirname, "raw-streams-worker.ts"), [port]);
  const exited = once(child, "exit");
  const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
  const sender = new Redis({ ...connection, enableAutoPipelining: true });
  const reader = new Redis(connection);
  await sender.xgroup("CREATE", "raw:replies", "g", "0", "MKSTREAM").catch(() => undefined);
  await once(child, "message");
  const waiting = new Map<string, () => void>();
  let stopped = false;
  const reading = (async () => {
    while (!stopped) {
      const found = (await reader.xreadgroup(
        ...(["GROUP", "g", "c", "COUNT", BATCH, "BLOCK", 1000, "STREAMS", "raw:replies", ">"] as const),
      )) as [string, [string, string[]][]][] | null;
      const entries = found?.[0]?.[1] ?? [];
      if (entries.length === 0) continue;
      const ids = entries.map(([id]) => id);
      void sender.xack("raw:replies", "g", ...ids);
      void sender.xdel("raw:replies", ...ids);
      for (const [, [, request = ""]] of entries) {
        waiting.get(request)?.();
        waiting.delete(request);
      }
    }
  })().catch((error: unknown) => {
    if (!stopped) throw error;
  });
  let next = 0;
  return {
    run: async () => {
      const id = String(next++);
      const answered = new Promise<void>((resolve) => waiting.set(id, resolve));
      await sender.xadd("raw:requests", "*", "id", id, "data", "hello");
      await answered;
    },
    stop: async () => {
      stopped = true;
      sender.disconnect();
      reader.disconnect();
      await reading;
      child.kill("SIGKILL");
      await exited;
    },
  };
}
