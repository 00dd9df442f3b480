import type { RedisClient } from "../connection/client.ts";
import { type HintWatch, HintWatchers } from "../hint-watchers.ts";
import type { Keys } from "../keys.ts";

/**
 * Gives a hint when a node has answered a question of this process. There is one subscription, to the process's own
 * channel; it is opened at the first question.
 */
export class ReplyHints {
  /** The name of this process in its questions. */
  readonly asker: string;
  readonly #open: () => RedisClient;
  readonly #keys: Keys;
  readonly #watchers = new HintWatchers();
  #client: RedisClient | null = null;
  #isSubscribed = false;

  /** @param open opens a connection in the role `subscriber`; called once, at the first wait. */
  constructor(open: () => RedisClient, keys: Keys, asker: string) {
    this.#open = open;
    this.#keys = keys;
    this.asker = asker;
  }

  /**
   * Watches a reply until `stop()`. While the subscription is on its way, there is a hint at once: an answer is often there before it,
   * and a look shows that.
   */
  watch(reply: string): HintWatch {
    this.#subscribe();
    const watch = this.#watchers.watch(reply);
    if (!this.#isSubscribed) watch.give();
    return watch;
  }

  close(): void {
    this.#client?.disconnect();
    this.#client = null;
  }

  #subscribe(): void {
    if (this.#client !== null) return;
    const client = this.#open();
    this.#client = client;
    client.on("message", (_channel: string, reply: string) => this.#watchers.tell(reply));
    client.subscribe(this.#keys.replyChannel(this.asker)).then(
      // An answer may have come before the subscription began.
      () => {
        this.#isSubscribed = true;
        this.#watchers.tellAll();
      },
      ignoreLostHint,
    );
  }
}

/** A subscription that fails loses hints and nothing else: its connection reports the error, and waiters look each second. */
function ignoreLostHint(): void {}
