import type { Health } from "../../../src/domain/stitch/stitch.ts";

/** What the heartbeats of one run of a stitch tell. */
export class RunHealth {
  /** null where they have told nothing. */
  last: Health | null = null;
  #isRed = false;

  /** Has it turned red, or green again? On the way back from red it may be yellow first: that is no turn. */
  turnsTo(health: Health): boolean {
    const turns = health === "red" ? !this.#isRed : health === "green" && this.#isRed;
    if (turns) this.#isRed = health === "red";
    return turns;
  }
}
