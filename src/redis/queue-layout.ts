import type { KeyRow } from "./layout.ts";

const TASKS = "one for each task that waits or runs; taken out with the end of its job";

/**
 * BullMQ's keys of a node's queue, by the end of their names; `<task>` is the id of an entry. The masters' queue, which carries
 * requests to the leader, has the same.
 */
export const QUEUE_LAYOUT: Readonly<Record<string, Omit<KeyRow, "of">>> = {
  meta: { types: ["hash"], holds: "settings of the queue", writer: "node; Masters", bound: "5 fields" },
  id: { types: ["string"], holds: "counter", writer: "Masters", bound: "one number" },
  wait: { types: ["list"], holds: "tasks that wait", writer: "Masters; node", bound: TASKS },
  paused: {
    types: ["list"],
    holds: "tasks that wait while the queue is paused",
    writer: "Masters; node",
    bound: TASKS,
  },
  active: { types: ["list"], holds: "tasks that the node has taken", writer: "node", bound: TASKS },
  prioritized: { types: ["zset"], holds: "not used", writer: "Masters; node", bound: "none" },
  pc: { types: ["string"], holds: "not used", writer: "Masters; node", bound: "one number" },
  delayed: { types: ["zset"], holds: "tasks that are tried again", writer: "node", bound: TASKS },
  "waiting-children": { types: ["zset"], holds: "not used", writer: "Masters; node", bound: "none" },
  completed: { types: ["zset"], holds: "tasks that have ended", writer: "node", bound: "100, and 1 h" },
  failed: { types: ["zset"], holds: "entries that are no tasks", writer: "node", bound: "100, and 1 h" },
  stalled: { types: ["set"], holds: "tasks that may have lost their worker", writer: "node", bound: TASKS },
  "stalled-check": { types: ["string"], holds: "when that was looked at", writer: "node", bound: "2 s" },
  limiter: { types: ["string"], holds: "not used", writer: "node", bound: "none" },
  marker: { types: ["zset"], holds: "that there is something to take", writer: "Masters; node", bound: "2 members" },
  events: {
    types: ["stream"],
    holds: "BullMQ's own events; nobody reads them",
    writer: "Masters; node",
    bound: "about 100; set anew whenever the node registers",
  },
  "<task>": { types: ["hash"], holds: "a task", writer: "Masters; node", bound: "16 MiB; with its place above" },
  "<task>:lock": { types: ["string"], holds: "that a worker is at it", writer: "node", bound: "5 s" },
};
