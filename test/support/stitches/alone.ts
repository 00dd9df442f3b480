// A stitch that looks whether it is alone: it notes in the file `journal` when it starts, and there too if the process that
// was this stitch before still runs. By the custom argument after `--`, on SIGTERM it
// - `ends` at once,
// - `finishes` what it does first,
// - `stays`.
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { isRunning } from "../process-list.ts";

const habit = process.argv.at(-1);
const note = (entry: Record<string, unknown>): void =>
  appendFileSync("journal", `${JSON.stringify({ ...entry, pid: process.pid, atMs: Date.now() })}\n`);

process.on("SIGTERM", () => {
  note({ event: "SIGTERM" });
  if (habit === "stays") return;
  setTimeout(
    () => {
      note({ event: "end" });
      process.exit(0);
    },
    habit === "finishes" ? 700 : 0,
  );
});

const former = existsSync("pid") ? Number(readFileSync("pid", "utf8")) : null;
if (former !== null && isRunning(former)) note({ event: "two", former });
writeFileSync("pid", String(process.pid));
note({ event: "start" });
console.log('{"Command":"sync","Id":2}\nend');
process.stdin.on("data", (text) => {
  if (habit !== "stays" && text.includes("_exit")) process.exit(0);
});
// Not that its input ends, but its watchdog is what ends it.
setInterval(() => undefined, 60_000);
