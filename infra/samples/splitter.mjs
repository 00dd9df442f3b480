// A sample stitch: deals out the lines of a text file to counters, in turn. It answers a message with what it has dealt out.
//   splitter.mjs FILE COUNTER…
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { connect } from "crossstitch/stitch";

const stitch = connect();
const [file, ...counters] = stitch.args;
const content = readFileSync(file, "utf8");
const lines = content.replace(/\n$/, "").split("\n");
const text = createHash("sha256").update(content).digest("hex").slice(0, 12);

stitch.onMessage(() => ({ file: basename(file), text, lines: lines.length }));

// All lines at each start: a counter recognises a line by its text and its number, and counts it once.
for (const [number, line] of lines.entries())
  await stitch.send({ to: counters[number % counters.length], channel: "line", data: { text, number, line } });
stitch.log(`dealt out the ${lines.length} lines of ${file} to ${counters.join(", ")}`);
