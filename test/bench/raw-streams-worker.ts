// The answering end of the bare streams, in its own process: answers each request and deletes it from its stream.
//   node raw-streams-worker.ts PORT      sends "ready" to its parent; ends with it
import { Redis } from "ioredis";

const connection = { host: "127.0.0.1", port: Number(process.argv[2]), maxRetriesPerRequest: null };
const sender = new Redis({ ...connection, enableAutoPipelining: true });
const reader = new Redis(connection);
process.once("disconnect", () => process.exit());
await sender.xgroup("CREATE", "raw:requests", "g", "0", "MKSTREAM").catch(() => undefined);
process.send?.("ready");
for (;;) {
  const found = (await reader.xreadgroup(
    ...(["GROUP", "g", "c", "COUNT", 500, "BLOCK", 1000, "STREAMS", "raw:requests", ">"] as const),
  )) as [string, [string, string[]][]][] | null;
  const entries = found?.[0]?.[1] ?? [];
  if (entries.length === 0) continue;
  const ids = entries.map(([id]) => id);
  // The answer first, then the acknowledgement: a crash between the two repeats an answer and loses none.
  for (const [, [, id = ""]] of entries) void sender.xadd("raw:replies", "*", "id", id);
  void sender.xack("raw:requests", "g", ...ids);
  void sender.xdel("raw:requests", ...ids);
}
