// Instead of all of BullMQ's Lua scripts, half a megabyte of text: those that src/queue/dispatcher.ts and masters-queue.ts call, to
// add to a queue, to take back from it and to forget it. The others are for workers, and the edge has none.
export { addStandardJob } from "bullmq/dist/esm/scripts/addStandardJob-9.js";
export { obliterate } from "bullmq/dist/esm/scripts/obliterate-2.js";
export { pause } from "bullmq/dist/esm/scripts/pause-7.js";
export { removeJob } from "bullmq/dist/esm/scripts/removeJob-2.js";
