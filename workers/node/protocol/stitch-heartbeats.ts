import { healthOf } from "../../../src/domain/stitch/health.ts";
import type { Health } from "../../../src/domain/stitch/stitch.ts";

/** How many unanswered heartbeats are remembered: more of them would not change the health. */
const MOST_WAITING = 16;

type HeartbeatsOptions = {
  readonly everyMs: number;
  /** Sends a heartbeat with this number. Its answer is passed to `answered` later, or never. */
  readonly send: (number: number) => void;
  /** true while nobody reads the stitch's answers: then no heartbeat is sent, and none counts as missed. */
  readonly isHeld?: () => boolean;
  /** Called when the health changes; for the first time when the stitch is heard from. */
  readonly onHealth: (health: Health) => void;
};

/** Sends heartbeats to a stitch, and derives its health from the unanswered ones. */
export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  readonly #first = Promise.withResolvers<void>();
  /** Resolves at the stitch's first answer. */
  readonly heard: Promise<void> = this.#first.promise;
  #waiting: number[] = [];
  #last = 0;
  #wasHeard = false;
  #health: Health = "missing";
  #timer: NodeJS.Timeout | undefined;

  constructor(options: HeartbeatsOptions) {
    this.#options = options;
  }

  /** Sends the first heartbeat at once. @param heard true: the stitch has already given a sign of life, and is healthy. */
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
    // A heartbeat that is unanswered when the next one is due counts as missed.
    this.#tell(this.#waiting.length);
    this.#last += 1;
    this.#waiting.push(this.#last);
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#options.send(this.#last);
  }

  /** Takes an answer to this heartbeat and the earlier ones. Ignores a number that was never sent or is already answered. */
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
