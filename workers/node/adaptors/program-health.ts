import { worseOf } from "../../../src/domain/stitch/health.ts";
import type { Health } from "../../../src/domain/stitch/stitch.ts";
import type { StartContext } from "../protocol/adaptor.ts";

/** The health of a program that has heartbeats, a check, or both: then the worse of the two. */
export class ProgramHealth {
  readonly #onHealth: StartContext["onHealth"];
  #heartbeats: Health;
  #check: Health;
  /** Why the last check failed. */
  #failure: string | null = null;

  constructor(has: { readonly heartbeats: boolean; readonly check: boolean }, onHealth: StartContext["onHealth"]) {
    this.#onHealth = onHealth;
    // What is not there is never the worse.
    this.#heartbeats = has.heartbeats ? "missing" : "green";
    this.#check = has.check ? "missing" : "green";
  }

  byHeartbeats(health: Health): void {
    this.#heartbeats = health;
    this.#tell();
  }

  byCheck(health: Health, failure: string | null): void {
    this.#check = health;
    this.#failure = failure;
    this.#tell();
  }

  #tell(): void {
    const health = worseOf(this.#heartbeats, this.#check);
    if (health === "missing") return;
    this.#onHealth(health, this.#check === "red" ? (this.#failure ?? undefined) : undefined);
  }
}
