import { healthOf } from "../../../src/domain/stitch/health.ts";
import type { Health } from "../../../src/domain/stitch/stitch.ts";

/** Heartbeats without an answer that are remembered: more of them change nothing. */
const MOST_WAITING = 16;

type HeartbeatsOptions = {
  readonly everyMs: number;
  /** Sends one with this number; answered later by `answered`, or never. */
  readonly send: (number: number) => void;
  /** Nobody listens to its answers just now: then none is sent, and none is missed. */
  readonly isHeld?: () => boolean;
  /** Told when the health is another than before; first when it is heard from. */
  readonly onHealth: (health: Health) => void;
};

/** Asks a stitch for a sign of life, and derives its health from what is not answered. */
export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  readonly #first = Promise.withResolvers<void>();
  /** Resolves at the first answer. */
  readonly heard: Promise<void> = this.#first.promise;
  #waiting: number[] = [];
  #last = 0;
  #wasHeard = false;
  #health: Health = "missing";
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeartbeatsOptions) {
    this.#options = options;
  }

  /** Sends the first one at once. @param heard it has given a sign of life already, and counts as well. */
  start(heard = false): void {
    if (heard) this.#hear();
    this.#timer = setInterval(() => this.#beat(), this.#options.everyMs);
    this.#beat();
  }

  /** Safe to repeat. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #beat(): void {
    if (this.#options.isHeld?.() === true) return;
    // Whatever is unanswered by the time of the next one counts as missed.
    this.#tell(this.#waiting.length);
    this.#last += 1;
    this.#waiting.push(this.#last);
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#options.send(this.#last);
  }

  /** An answer to that one, and so to those before it. One that was never sent, or is answered already, means nothing. */
  answered(number: number): void {
    if (!this.#waiting.includes(number)) return;
    this.#waiting = this.#waiting.filter((each) => each > number);
    this.#hear();
    this.#tell(Math.max(0, this.#waiting.length - 1));
  }

  #hear(): void {
    this.#wasHeard = true;
    this.#first.resolve();
  }

  #tell(missed: number): void {
    const health = healthOf(missed, this.#wasHeard);
    if (health === this.#health) return;
    this.#health = health;
    this.#options.onHealth(health);
  }
}
