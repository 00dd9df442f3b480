import type { ChosenMaster } from "../../domain/master-mode.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import { forgetMaster, seeMaster } from "../../redis/master-list.ts";
import { MASTER_ALIVE_MS } from "../../redis/master-mode.ts";
import { VERSION } from "../../version.ts";

/** What this Master has learned about the others is used for this long. It learns it anew each second. */
const KNOWN_MS = 3000;

type MasterPresenceOptions = {
  /** This Master's id. */
  readonly id: string;
  readonly chosen: ChosenMaster;
  readonly redis: RedisClient;
  readonly keys: Keys;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/** This Master among the Masters of its cluster: on their list, and the one to decide in the background, or not. */
export class MasterPresence {
  readonly #options: MasterPresenceOptions;
  #decidesUntilMs = Number.NEGATIVE_INFINITY;

  constructor(options: MasterPresenceOptions) {
    this.#options = options;
  }

  /**
   * Puts this Master on the list, and learns whether it decides in the background. To be repeated each second.
   * @throws RequestError `wrong_mode` if the cluster's Masters have another mode.
   */
  async see(): Promise<void> {
    const { id, chosen, redis, keys, steadyNowMs } = this.#options;
    // Counted from before the request: another Master may take over MASTER_ALIVE_MS after the preferred one was seen last.
    const askedMs = steadyNowMs();
    const agoMs = await seeMaster(redis, keys, chosen, id, VERSION);
    const isPreferred = chosen.preferred === id;
    const isPreferredAlive = agoMs !== null && agoMs <= MASTER_ALIVE_MS;
    this.#decidesUntilMs = isPreferred || !isPreferredAlive ? askedMs + KNOWN_MS : Number.NEGATIVE_INFINITY;
  }

  /**
   * May this Master bring jobs forward and do chores now? In the mode `preferred` only the preferred one may while it is alive,
   * and any other if it is not; in other modes every Master may. Two Masters may decide for a moment: that is safe, as in the
   * mode `leaderless`.
   */
  mayDecide(): boolean {
    return this.#options.chosen.mode !== "preferred" || this.#options.steadyNowMs() < this.#decidesUntilMs;
  }

  /** Takes this Master off the list: another one need not wait until it counts as dead. Safe to repeat. */
  async leave(): Promise<void> {
    const { id, redis, keys } = this.#options;
    this.#decidesUntilMs = Number.NEGATIVE_INFINITY;
    await forgetMaster(redis, keys, id);
  }
}
