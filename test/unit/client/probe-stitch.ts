// A stitch for the tests. Each channel tries one thing. probe_stitch.py does the same in Python.
import { existsSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { type AskOptions, connect, type Message, type OutgoingMessage } from "crossstitch/stitch";

const { exitLimitMs, deaf, concurrency } = JSON.parse(process.env["PROBE"] ?? "{}");
const stitch = connect({ exitLimitMs, concurrency });
let heart = "beats";
let taken = 0;

const actions: Readonly<Record<string, (message: Message) => unknown>> = {
  facts: () => {
    const { id, node, group, application, component, version, dataDir, args } = stitch;
    return { id, node, group, application, component, version, dataDir, args };
  },
  echo: ({ data }) => data,
  json: (message) => message.json(),
  about: ({ id, from, channel }) => `${id} ${from} ${channel}`,
  nothing: () => undefined,
  null: () => null,
  throw: ({ data }) => {
    throw new Error(data);
  },
  unsendable: () => () => undefined,
  large: ({ data }) => "x".repeat(Number(data)),
  log: (message) => stitch.log(...(message.json() as unknown[])),
  error: () => stitch.log(new Error("shown with its stack")),
  print: ({ data }) => void process.stdout.write(data),
  "print line": ({ data }) => console.log(data),
  send: (message) => stitch.send(message.json() as OutgoingMessage),
  /** Asks all questions at the same time. */
  ask: async (message) => {
    const questions = message.json() as ({ readonly to: string; readonly data: unknown } & AskOptions)[];
    const answers = await Promise.all(questions.map(({ to, data, ...options }) => stitch.ask(to, data, options)));
    return answers.map(({ from, channel, data }) => ({ from, channel, data }));
  },
  heart: ({ data }) => {
    heart = data;
  },
  /** Waits until a file of that name exists. */
  wait: async ({ data }) => {
    stitch.log("waiting");
    while (!existsSync(data)) await setTimeout(5);
  },
  flood: ({ data }) => {
    for (let left = Number(data); left > 0; left--) {
      void stitch.send({ to: "sink", data: "x".repeat(10_000) }).then(() => {
        taken += 1;
      });
    }
  },
  /** Writes to stderr, which the test also reads while it does not read stdout. */
  taken: () => void process.stderr.write(`taken ${taken};`),
};

if (deaf !== true) stitch.onMessage((message) => actions[message.channel]?.(message));
stitch.onHeartbeat(() => {
  if (heart === "fails") throw new Error("no heart");
});
stitch.onExit(() => {
  throw new Error("a hook that fails");
});
stitch.onExit(async () => {
  stitch.log("goodbye");
  // More than a pipe holds: the process may end only after all of it has left.
  if (heart === "talks") stitch.log("x".repeat(50_000), "x".repeat(50_000), "x".repeat(50_000), "last words");
  if (heart === "lingers") await new Promise(() => undefined);
});
