// A sample stitch: counts the words in the lines that it is sent, each line once. To a question on the channel "total" it
// answers with its counts for a text. Its counts survive a restart.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "crossstitch/stitch";

const stitch = connect();
const file = join(stitch.dataDir, "counted");
const kept = existsSync(file) ? readFileSync(file, "utf8") : "";
/** The number of words, by text and line number. */
const counted = new Map([...kept.matchAll(/^(.+) (\d+)\n/gm)].map(([, line, words]) => [line, Number(words)]));

function count({ text, number, line }) {
  const name = `${text} ${number}`;
  // Messages are delivered at least once.
  if (counted.has(name)) return;
  const words = line.split(/\s+/).filter((word) => word !== "").length;
  // On disk before the message is acknowledged: that happens when this function returns.
  appendFileSync(file, `${name} ${words}\n`);
  counted.set(name, words);
}

function total(text) {
  const words = [...counted].filter(([name]) => name.startsWith(`${text} `)).map(([, each]) => each);
  return { lines: words.length, words: words.reduce((sum, each) => sum + each, 0) };
}

stitch.onMessage((message) => (message.channel === "total" ? total(message.data) : count(message.json())));
