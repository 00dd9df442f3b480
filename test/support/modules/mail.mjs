// A module that does with a message what its channel says, and notes each one in the file `journal` of its folder. It does the
// same as the process test/support/stitches/mail.mjs.
import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

export function start(context) {
  appendFileSync(join(context.dataDir, "starts"), "start\n");
}

export async function message({ from, channel, data }, context) {
  const { dataDir } = context;
  const has = (file) => existsSync(join(dataDir, file));
  appendFileSync(join(dataDir, "journal"), `${JSON.stringify({ from, channel, data: short(data) })}\n`);
  switch (channel) {
    case "reply":
      return `re:${short(data)}`;
    case "reply-large":
      return "r".repeat(Number(data));
    case "fail":
      throw new Error("told to fail");
    case "fail-until-go":
      if (!has("go")) throw new Error("told to fail");
      return undefined;
    case "wait-for-go":
      while (!has("go") && !context.signal.aborted) await wait(20);
      return undefined;
    case "never":
      return new Promise(() => undefined);
    case "send":
      for (const { to, data: text, channel: name, first = 1, count = 1, size = 0 } of JSON.parse(data))
        for (let n = first; n < first + count; n++)
          await context.send(to, (first === 1 && count === 1 ? text : `${text}${n}`).padStart(size, "x"), name);
      return undefined;
    case "send-at-once":
      await Promise.all(JSON.parse(data).map(({ to, data: text, channel: name }) => context.send(to, text, name)));
      return undefined;
    case "try-send":
      return context.send(JSON.parse(data), "tried").then(
        () => "sent",
        ({ code }) => code,
      );
    case "ask": {
      const { to, data: text, channel: name } = JSON.parse(data);
      return (await context.ask(to, text, { channel: name })).data;
    }
    case "ask-back":
      return (await context.ask(from, data, { channel: "reply" })).data;
    case "throw-later":
      setTimeout(() => {
        throw new Error("told to end");
      });
      return undefined;
    default:
      return undefined;
  }
}

/** Long data is shortened to its length, its beginning and its end. */
const short = (data) => (data.length <= 1000 ? data : `${data.length} ${data.slice(0, 10)}…${data.slice(-10)}`);
