// A sample stitch: sends a message to its application at each heartbeat, and logs who answers. bob.py answers.
import { connect } from "crossstitch/stitch";

const stitch = connect();
let letters = 0;
let answers = 0;

stitch.onHeartbeat(async () => {
  letters += 1;
  await stitch.send({ group: stitch.application, data: `letter ${letters}` });
});
stitch.onMessage(({ from, data }) => {
  if (from.startsWith("api:")) return `${letters} letters written, ${answers} answers read`;
  answers += 1;
  stitch.log(`${from} answers: ${data}`);
  // It does not answer an answer: two stitches that answer each other's answers would never stop.
  return undefined;
});
