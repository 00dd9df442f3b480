// A process stitch that does with a message what its channel says, and notes each one in the file `journal` of its folder. It
// uses no SDK, so that tests see what the node writes. It does the same as the module test/support/modules/mail.mjs.
import { appendFileSync, existsSync } from "node:fs";

let gathered = [];
let rest = "";
process.stdin.setEncoding("utf8").on("data", (chunk) => {
  const lines = (rest + chunk).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    if (line !== "end") gathered.push(line);
    else {
      take(JSON.parse(gathered.join("\n")));
      gathered = [];
    }
  }
});
process.stdin.on("end", () => process.exit(0));

// The output is a pipe, so this call waits if nobody reads it.
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\nend\n`);
const short = (data) => (data.length <= 1000 ? data : `${data.length} ${data.slice(0, 10)}…${data.slice(-10)}`);

function take({ Id, FromStitchInstanceId: from, ChannelName: channel, Data: data, ReplyToId }) {
  if (channel === "_heartbeat") {
    if (!existsSync("silent")) say({ Command: "sync", Id });
    return;
  }
  if (channel === "_exit") {
    if (existsSync("ack-at-exit")) say({ Command: "ack", Id: lastId });
    process.exit(0);
  }
  appendFileSync("journal", `${JSON.stringify({ from, channel, data: short(data), id: Id, replyTo: ReplyToId })}\n`);
  lastId = Id;
  const ack = () => say({ Command: "ack", Id });
  const reply = (text, id = Id) => say({ Command: "data", Id: id, ToStitchInstanceId: from, Data: text });
  switch (channel) {
    case "reply":
      reply(`re:${short(data)}`);
      break;
    case "reply-under-the-next-id":
      reply(`re:${data}`, Id + 1);
      break;
    case "ack-then-reply":
      ack();
      reply(`re:${data}`);
      break;
    case "reply-on-a-system-channel":
      say({ Command: "data", Id, ToStitchInstanceId: from, DataChannel: "_exit", Data: "" });
      ack();
      break;
    case "fail":
      say({ Command: "fail", Id });
      break;
    case "fail-until-go":
      say({ Command: existsSync("go") ? "ack" : "fail", Id });
      break;
    case "wait-for-go": {
      const timer = setInterval(() => {
        if (!existsSync("go")) return;
        clearInterval(timer);
        ack();
      }, 20);
      break;
    }
    case "never":
      break;
    case "send":
      for (const { to, data: text, channel: name, first = 1, count = 1, size = 0 } of JSON.parse(data))
        for (let n = first; n < first + count; n++)
          say({
            Command: "data",
            ...("group" in to ? { ToGroupName: to.group } : { ToStitchInstanceId: to.stitch }),
            DataChannel: name,
            Data: (first === 1 && count === 1 ? text : `${text}${n}`).padStart(size, "x"),
          });
      ack();
      break;
    case "ask": {
      // The question has its own Id. The answer is noted like any message.
      const { to, data: text, channel: name, id } = JSON.parse(data);
      say({ Command: "data", Id: id, ToStitchInstanceId: to, DataChannel: name, Data: text });
      ack();
      break;
    }
    case "stop-reading-until-go": {
      process.stdin.pause();
      const timer = setInterval(() => {
        if (!existsSync("go")) return;
        clearInterval(timer);
        process.stdin.resume();
      }, 20);
      ack();
      break;
    }
    case "exit":
      process.exit(3);
      break;
    default:
      ack();
  }
}

let lastId = 0;
