import { connect } from "node:net";
import { failedLook, type Finding, findingOf, LOOPBACK, type Probe } from "./probe.ts";

/** Looks whether something accepts connections on a port. Sends nothing. */
export const tcpProbe =
  (port: number): Probe =>
  (signal) =>
    new Promise<Finding>((resolve) => {
      let finding: Finding = { kind: "given up", said: "" };
      const socket = connect({ host: LOOPBACK, port });
      const giveUp = () => socket.destroy();
      signal.addEventListener("abort", giveUp);
      if (signal.aborted) giveUp();
      socket.once("connect", () => {
        // Where nobody listens, the system may give the connection that same port: it is then connected to itself.
        finding = socket.localPort === port ? failedLook("connect ECONNREFUSED") : { kind: "well" };
        socket.destroy();
      });
      socket.once("error", (error) => (finding = findingOf(error, `${LOOPBACK}:${port}`)));
      socket.once("close", () => {
        signal.removeEventListener("abort", giveUp);
        resolve(finding);
      });
    });
