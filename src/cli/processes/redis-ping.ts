import { connect } from "node:net";

export type RedisAddress = { readonly path: string } | { readonly host: string; readonly port: number };

const LIMIT_MS = 1000;

/** Does a Redis answer that has loaded its data? (While loading it answers `-LOADING`.) Never rejects; takes at most 1 s. */
export function answersPing(address: RedisAddress): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    let answer = "";
    const finish = (ready: boolean): void => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(LIMIT_MS, () => finish(false));
    socket.once("error", () => finish(false));
    socket.once("close", () => resolve(false));
    socket.once("connect", () => socket.write("PING\r\n"));
    socket.setEncoding("utf8").on("data", (text: string) => {
      answer += text;
      if (answer.includes("\r\n")) finish(answer.startsWith("+PONG"));
    });
  });
}
