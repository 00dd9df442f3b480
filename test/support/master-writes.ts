import { type Keys, MASTER_RUNNER } from "../../src/redis/keys.ts";

/** The words of a script call: EVAL or EVALSHA, its source or hash, how many keys, the keys, its arguments. */
const scriptOn = (keyPrefix: string, words: readonly string[]): boolean =>
  /^eval(sha)?$/i.test(words[0] ?? "") && words[3]?.startsWith(keyPrefix) === true;
const anyJob = (keys: Keys): string => keys.job("").replace("}", "");
/** Is it one of the two scripts on a Master's own claims and outcomes? Only the one that writes outcomes names the runner. */
const ofMaster = (words: readonly string[], keys: Keys): boolean =>
  scriptOn(anyJob(keys), words) && words[3] === `${words[4]}:out:${MASTER_RUNNER}`;

/** Recognizes each write of a Master by its words, as a cutting proxy sees them. The job's node is n1. */
export const WRITES = {
  pointer: (words, keys) => scriptOn(keys.openJobs, words),
  record: (words, keys) => scriptOn(anyJob(keys), words) && words[4]?.startsWith('{"id":') === true,
  dispatch: (words, keys) => scriptOn(`${keys.node("n1")}:commands:`, words),
  claim: (words, keys) => ofMaster(words, keys) && words[6] !== MASTER_RUNNER,
  order: (words, keys) => scriptOn(keys.nodeOrders("n1"), words),
  outcomes: (words, keys) => ofMaster(words, keys) && words[6] === MASTER_RUNNER,
  end: (words, keys) => scriptOn(anyJob(keys), words) && words[5] === "succeeded",
} as const satisfies Record<string, (words: readonly string[], keys: Keys) => boolean>;

/** Where a Master is cut off: just before one of its writes, or just after it. */
export type Point = { readonly side: "before" | "after"; readonly write: keyof typeof WRITES };
