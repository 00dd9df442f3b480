// A sample stitch: writes to its application at each heartbeat, and logs who answers. bob.py is her pen pal.
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
  // Without an answer of her own: two who answer each other's answers never come to an end.
  return undefined;
});
