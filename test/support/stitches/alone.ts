// A stitch that checks whether it is alone. It notes in the file `journal` when it starts, and if the process that was this
// stitch before still runs. The custom argument after `--` says what it does on SIGTERM:
// - `ends`: it ends at once,
// - `finishes`: it first finishes its work,
// - `stays`: it stays.
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
// It does not end when its input ends: its watchdog must end it.
setInterval(() => undefined, 60_000);
