import type { Health } from "../../../src/domain/stitch/stitch.ts";

/** The health of one run of a stitch, as its heartbeats show it. */
export class RunHealth {
  /** null if the heartbeats have shown nothing yet. */
  last: Health | null = null;
  #isRed = false;

  /** Has the health turned red, or green again? Yellow on the way from red to green does not count. */
  turnsTo(health: Health): boolean {
    const turns = health === "red" ? !this.#isRed : health === "green" && this.#isRed;
    if (turns) this.#isRed = health === "red";
    return turns;
  }
}
