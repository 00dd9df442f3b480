// A module whose stitches behave as the name of their component says. Each notes the calls of its hooks in the file `journal`
// of its folder; some wait for the file `go` there.
import { EventEmitter } from "node:events";
import { appendFileSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

const never = () => new Promise(() => undefined);
const has = ({ dataDir }, file) => existsSync(join(dataDir, file));
const note = ({ dataDir }, entry) => appendFileSync(join(dataDir, "journal"), `${JSON.stringify(entry)}\n`);
const fault = ({ id }) => new Error(`the fault of ${id}`);

/** Acts once, in its own timer, when there is a file `go`. */
function onGo(context, act) {
  const timer = setInterval(() => {
    if (context.signal.aborted) clearInterval(timer);
    if (!has(context, "go")) return;
    clearInterval(timer);
    rmSync(join(context.dataDir, "go"));
    act();
  }, 20);
}
const failsOnGo = (act) => ({ start: (context) => onGo(context, () => act(context)) });

const habits = {
  timer: failsOnGo((context) => {
    throw fault(context);
  }),
  immediate: failsOnGo((context) =>
    setImmediate(() => {
      throw fault(context);
    }),
  ),
  rejection: failsOnGo((context) => void Promise.reject(fault(context))),
  "async-function": failsOnGo(async (context) => {
    await wait(1);
    throw fault(context);
  }),
  emitter: failsOnGo((context) => new EventEmitter().emit("error", fault(context))),
  "no-error": failsOnGo(({ id }) => void Promise.reject(`the fault of ${id}`)),
  "lost-message": failsOnGo((context) => void context.send({ stitch: "no-such-stitch" }, "x")),
  "vain-question": failsOnGo((context) => void context.ask("no-such-stitch", "x", { timeoutMs: 1 })),
  "abort-listener": {
    start: (context) =>
      context.signal.addEventListener("abort", () => {
        throw fault(context);
      }),
  },
  "abort-rejection": {
    start: (context) => context.signal.addEventListener("abort", () => void Promise.reject(fault(context))),
  },
  "start-rejects": {
    start: async (context) => {
      await wait(1);
      throw fault(context);
    },
  },
  "start-throws": {
    start: (context) => {
      throw fault(context);
    },
  },
  "slow-start": {
    start: async (context) => {
      while (!has(context, "go")) await wait(20);
    },
  },
  "heart-throws": {
    heartbeat: (context) => {
      if (has(context, "go")) throw fault(context);
    },
  },
  "heart-hangs": { heartbeat: (context) => (has(context, "go") ? never() : undefined) },
  "never-beats": { heartbeat: never },
  "never-stops": { stop: never },
  "stop-rejects": { stop: (context) => Promise.reject(fault(context)) },
  logs: { start: (context) => context.log("one", "two\nthree") },
};

export function start(context) {
  const { id, node, group, application, component, version, dataDir, signal, state } = context;
  note(context, { hook: "start", id, node, group, application, component, version, dataDir, state: state ?? null });
  context.state = { beats: 0 };
  signal.addEventListener("abort", () => note(context, { hook: "abort" }));
  return habits[component]?.start?.(context);
}

export function heartbeat(context) {
  context.state.beats += 1;
  note(context, { hook: "heartbeat", beats: context.state.beats });
  return habits[context.component]?.heartbeat?.(context);
}

export function stop(context) {
  note(context, { hook: "stop" });
  return habits[context.component]?.stop?.(context);
}
