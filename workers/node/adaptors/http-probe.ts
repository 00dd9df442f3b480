import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { HealthCheck } from "../../../src/domain/stitch/check.ts";
import { failedLook, type Finding, findingOf, LOOPBACK, type Probe } from "./probe.ts";

/** A server that is asked for a page should not see a broken connection. Of what is longer than this, the rest is not read. */
const MAX_BODY_BYTES = 64 * 1024;

/** Asks an HTTP server. Its status decides, as soon as it is there; the body is thrown away, and no redirect is followed. */
export const httpProbe =
  ({ port, path, expect }: NonNullable<HealthCheck["http"]>): Probe =>
  (signal) =>
    new Promise<Finding>((resolve) => {
      const address = `${LOOPBACK}:${port}`;
      const headers = { host: address, connection: "close", "user-agent": "crossstitch" };
      let finding: Finding = { kind: "given up", said: "" };
      const asked = request({ host: LOOPBACK, port, path, headers, agent: false });
      const giveUp = () => asked.destroy();
      const end = () => {
        signal.removeEventListener("abort", giveUp);
        resolve(finding);
      };
      signal.addEventListener("abort", giveUp);
      if (signal.aborted) giveUp();
      let hasStatus = false;
      const take = ({ statusCode = 0 }: IncomingMessage) => {
        hasStatus = true;
        finding = judge(statusCode, expect);
      };
      asked.once("response", (response) => {
        take(response);
        discard(asked, response);
      });
      // A server may answer with 101, though nobody has asked it to.
      asked.once("upgrade", (response, socket) => {
        take(response);
        socket.destroy();
        end();
      });
      asked.on("error", (error) => {
        if (!hasStatus && !signal.aborted) finding = findingOf(error, address);
      });
      asked.once("close", end);
      asked.end();
    });

function judge(status: number, expect: number | undefined): Finding {
  const isWell = expect === undefined ? status >= 200 && status < 400 : status === expect;
  if (isWell) return { kind: "well" };
  return failedLook(`answered ${status}${expect === undefined ? "" : ` instead of ${expect}`}`);
}

function discard(asked: ClientRequest, response: IncomingMessage): void {
  let leftBytes = MAX_BODY_BYTES;
  response.on("data", (chunk: Buffer) => {
    leftBytes -= chunk.length;
    if (leftBytes < 0) asked.destroy();
  });
  // A body that breaks off changes nothing: the status has decided.
  response.on("error", () => undefined);
}
