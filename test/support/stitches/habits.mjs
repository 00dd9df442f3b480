// Stitches with the habit that the custom argument after `--` names. Each answers its heartbeats, exits when it is told
// to, and notes every message it gets in the file `journal`.
import { appendFileSync, existsSync } from "node:fs";
import { createInterface } from "node:readline";

const [habit, ...more] = process.argv.slice(process.argv.indexOf("--") + 1);
const sync = (id) => `${JSON.stringify({ Command: "sync", Id: id })}\nend\n`;
const print = (text) => process.stdout.write(text);
/** Prints `text` once, right before the first answer. The other answers are as usual. */
const once = (text) => (id, isFirst) =>
  print(isFirst ? Buffer.concat([Buffer.from(text), Buffer.from(sync(id))]) : sync(id));

const habits = {
  "several lines, Windows ends": (id) => print(`{\r\n\t"Command": "sync",\r\n\t"Id": ${id}\r\n}\r\nend\r\n`),
  "lower case": (id) => print(`{"command":"SYNC","id":"${id}"}\nend\n`),
  "wrong ids": (id) => {
    for (const each of existsSync("be-right") ? [id] : [id + 1, id + 1_000_000, 0, 1]) print(sync(each));
  },
  says: once(more.join("\n")),
  "is never understood": once("{not json\nend\n".repeat(50)),
  "is no UTF-8": once(
    Buffer.concat([
      Buffer.from("outside \xff\xc3\n", "latin1"),
      Buffer.from('{"Command":"logs","Logs":["inside \xe9t\xe9"]}\nend\n', "latin1"),
    ]),
  ),
  talks: (id, isFirst) => {
    if (isFirst) {
      print("before\n\n  \n");
      print(`{"Command":"logs","Logs":["one","two\\nthree"]}\nend\n`);
      process.stderr.write("an error\n{\nend\n");
      print("after\n");
    }
    print(sync(id));
  },
};

let isFirst = true;
let gathered = "";
createInterface({ input: process.stdin }).on("line", (line) => {
  if (line !== "end") {
    gathered += line;
    return;
  }
  const message = JSON.parse(gathered);
  gathered = "";
  appendFileSync("journal", `${JSON.stringify(message)}\n`);
  if (message.ChannelName === "_exit") process.exit(0);
  if (message.ChannelName !== "_heartbeat") return;
  habits[habit](message.Id, isFirst);
  isFirst = false;
});
