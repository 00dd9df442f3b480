import { ERRORS, type ErrorCode, RequestError } from "../../domain/errors.ts";
import { livenessOf } from "../../domain/node/node.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { putQuestion } from "../../redis/inbox/inbox.ts";
import type { Keys } from "../../redis/keys.ts";
import { readNodes } from "../../redis/node/node-record.ts";
import { type Answer, takeAnswer } from "../../redis/inbox/replies.ts";
import type { ReplyHints } from "../../redis/inbox/reply-hints.ts";

/** How long a node may take to answer. Together with the reads before it, the API still answers within 3 s. */
export const ANSWER_MS = 2000;
/** How often to look for the answer while waiting, even without a hint. */
const LOOK_MS = 1000;

export type NodeQuestionsOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly replies: ReplyHints;
  readonly deadAfterMs: number;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
};

/** Asks nodes for what only they know, through their inboxes. */
export class NodeQuestions {
  readonly #options: NodeQuestionsOptions;

  constructor(options: NodeQuestionsOptions) {
    this.#options = options;
  }

  /**
   * Is the node there to answer? `away`: why it is not. `nowMs`: the time of the node's Redis at this look; the node's
   * deadline for an answer is based on it.
   */
  async presence(node: string): Promise<{ readonly away: null; readonly nowMs: number } | { readonly away: string }> {
    const { redis, keys, deadAfterMs } = this.#options;
    const [record] = await readNodes(redis, keys, [node]);
    const away = (how: string) => ({ away: `The node ${node} ${how}; what it keeps can be read when it is back.` });
    const liveness = livenessOf(record, deadAfterMs);
    // A suspect node may be back at any moment, so it is asked.
    if (record == null || liveness === "dead") return away("is dead");
    return liveness === "left" ? away("has left") : { away: null, nowMs: record.readAtMs };
  }

  /**
   * Asks a question and waits for the answer.
   * @param nowMs from `presence`.
   * @throws the error that the node answers with; `node_unreachable` if it does not answer within 2 s; `inbox_full`.
   */
  async ask(node: string, name: string, args: Readonly<Record<string, unknown>>, nowMs: number): Promise<unknown> {
    const { redis, keys, replies } = this.#options;
    const reply = this.newReplyId();
    const untilMs = this.#options.nowMs() + ANSWER_MS;
    const watch = replies.watch(reply);
    try {
      const asked = { name, args, reply, asker: replies.asker, untilMs: nowMs + ANSWER_MS };
      if (!(await putQuestion(redis, keys, node, asked)))
        throw new RequestError("inbox_full", `${node} has more to do than it keeps up with; ask again soon.`);
      for (;;) {
        const leftMs = untilMs - this.#options.nowMs();
        if (leftMs > 0) await watch.next(Math.min(LOOK_MS, leftMs));
        const answer = await takeAnswer(redis, keys, reply);
        if (answer !== null) return valueOf(answer);
        if (leftMs <= 0)
          throw new RequestError("node_unreachable", `The node ${node} did not answer within ${ANSWER_MS} ms.`);
      }
    } finally {
      watch.stop();
    }
  }

  /** A new id for a reply. Nobody can guess it. */
  newReplyId(): string {
    return [...this.#options.randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

function valueOf(answer: Answer): unknown {
  if (answer.ok) return answer.value;
  const { code, detail } = answer;
  throw new RequestError(Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : "internal", detail);
}
