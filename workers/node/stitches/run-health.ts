import type { Health } from "../../../src/domain/stitch/stitch.ts";

/** The health of one run of a stitch, as its heartbeats and its check show it. */
export class RunHealth {
  /** null if they have shown nothing yet. */
  last: Health | null = null;
  /** Its check is red, and failed with this text. */
  failure: string | undefined;
  /** The run was ended because its check was red, and failed with this text. */
  endedWith: string | undefined;
  #isRed = false;

  /** Has the health turned red, or green again? Yellow on the way from red to green does not count. */
  turnsTo(health: Health): boolean {
    const turns = health === "red" ? !this.#isRed : health === "green" && this.#isRed;
    if (turns) this.#isRed = health === "red";
    return turns;
  }
}
