// A process stitch that answers one heartbeat, so that it has come up, and reads nothing more.
process.stdin.setEncoding("utf8").once("data", (text) => {
  process.stdin.pause();
  const { Id } = JSON.parse(text.split("\n", 1)[0]);
  process.stdout.write(`${JSON.stringify({ Command: "sync", Id })}\nend\n`);
});
setInterval(() => undefined, 60_000);
