// A stitch with the habits of the strictest stitches that exist: it knows only a line that is exactly `end`, joins the lines of
// a message with commas, sends the Id as a string and an empty line after `end`, and has an empty prompt. It notes every
// message it gets in the file `journal`.
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";

const input = createInterface({ input: process.stdin, output: process.stdout, terminal: false });
input.setPrompt("");
let gathered = [];

input.on("line", (line) => {
  try {
    if (line === "end") {
      take(JSON.parse(gathered.join(",")));
      gathered = [];
    } else {
      gathered.push(line);
    }
    input.prompt();
  } catch (error) {
    note({ error: String(error) });
  }
});
input.on("close", () => process.exit(9));
input.prompt();

function take(message) {
  note(message);
  if (message.ChannelName === "_heartbeat") console.log(`{ "Command":"sync", "Id":"${message.Id}" }\nend\n`);
  if (message.ChannelName === "_exit") process.exit(0);
}

function note(entry) {
  appendFileSync("journal", `${JSON.stringify(entry)}\n`);
}
