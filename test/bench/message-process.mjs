// A process stitch that acknowledges every message, and answers the one that says "last". Plain ProcessV1, nothing else.
let text = "";
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (part) => {
  const lines = (text + part).split("\n");
  text = lines.pop();
  let out = "";
  for (const line of lines) {
    if (line === "end") continue;
    const { Id, ChannelName, FromStitchInstanceId, Data } = JSON.parse(line);
    if (ChannelName === "_exit") process.exit(0);
    const command =
      ChannelName === "_heartbeat"
        ? { Command: "sync", Id }
        : Data === "last"
          ? { Command: "data", Id, ToStitchInstanceId: FromStitchInstanceId, Data }
          : { Command: "ack", Id };
    out += `${JSON.stringify(command)}\nend\n`;
  }
  process.stdout.write(out);
});
