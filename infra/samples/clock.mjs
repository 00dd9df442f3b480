// A sample stitch: tells the time every ten seconds, and at once to whoever sends it a message.
import { connect } from "crossstitch/stitch";

const stitch = connect();
const now = () => new Date().toISOString();
let heartbeats = 0;

stitch.onHeartbeat(() => {
  heartbeats += 1;
});
stitch.onMessage(({ from }) => {
  stitch.log(`${from || "the system"} asks for the time`);
  return now();
});
stitch.onExit(() => stitch.log("the clock stops"));

stitch.log(`the clock of ${stitch.node} goes`);
setInterval(() => stitch.log(`it is ${now()}; heartbeats answered: ${heartbeats}`), 10_000);
