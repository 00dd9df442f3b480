// A process stitch, made with the SDK, that writes to others and takes the messages that come (test/support/correspondence.ts).
import { connect } from "crossstitch/stitch";
import { Correspondence } from "../correspondence.ts";

const stitch = connect();
const correspondence = new Correspondence({
  me: `${stitch.node}:${stitch.id}`,
  dataDir: stitch.dataDir,
  seed: Number(process.env["TEST_SEED"]),
  // A message that was written is perhaps not stored by the node, so this resolves with false.
  send: (to, data) =>
    stitch.send("stitch" in to ? { to: to.stitch, data } : { group: to.group, data }).then(() => false),
  ask: (to, data) => stitch.ask(to, data, { channel: "ask" }).then(({ from }) => from),
  crash: () => process.exit(3),
});
stitch.onMessage(({ channel, data }) => correspondence.take(channel, data));
correspondence.start();
