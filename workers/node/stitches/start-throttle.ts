/**
 * Maximum number of starts that hold a place at once: a node must
 * not create the processes of thousands of stitches in one moment.
 */
const PLACES = 50;
/**
 * A start holds its place at most this long. After that the node only
 * waits for the stitch, which costs nothing, so the next start may begin.
 */
const HELD_MS = 1000;

/** The place of one start: the start waits for it, then holds it, then gives it back. */
export type Place = {
  /** Resolves with true when the start may begin; with false if the place was given back before that. */
  readonly granted: Promise<boolean>;
  /** May the start begin now? */
  readonly isHeld: boolean;
  /** The start has begun: the place is given back when `up` settles, at the latest after `HELD_MS`. */
  holdUntil(up: Promise<unknown>): void;
  /** Ends the wait, or lets the next start begin. Safe to repeat. */
  giveBack(): void;
};

/**
 * Bounds how many stitches of a node start at once, whatever causes the starts. First come, first served. Starts that hang
 * delay the others by at most `HELD_MS` for each `PLACES` of them.
 */
export class StartThrottle {
  readonly #waiting = new Set<StartPlace>();
  readonly #held = new Set<StartPlace>();
  #closed = false;

  ask(): Place {
    const place = new StartPlace(() => this.#remove(place));
    if (this.#closed) place.giveBack();
    else {
      this.#waiting.add(place);
      this.#grant();
    }
    return place;
  }

  /** Ends every wait and grants nothing more. Safe to repeat. */
  close(): void {
    this.#closed = true;
    for (const place of [...this.#waiting, ...this.#held]) place.giveBack();
  }

  #remove(place: StartPlace): void {
    this.#waiting.delete(place);
    if (this.#held.delete(place)) this.#grant();
  }

  #grant(): void {
    for (const place of this.#waiting) {
      if (this.#closed || this.#held.size >= PLACES) return;
      this.#waiting.delete(place);
      this.#held.add(place);
      place.grant();
    }
  }
}

class StartPlace implements Place {
  readonly #granted = Promise.withResolvers<boolean>();
  readonly #leave: () => void;
  #state: "waiting" | "held" | "given back" = "waiting";
  #timer: NodeJS.Timeout | undefined;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  get granted(): Promise<boolean> {
    return this.#granted.promise;
  }

  get isHeld(): boolean {
    return this.#state === "held";
  }

  grant(): void {
    this.#state = "held";
    this.#granted.resolve(true);
  }

  holdUntil(up: Promise<unknown>): void {
    if (!this.isHeld) return;
    const giveBack = () => this.giveBack();
    this.#timer = setTimeout(giveBack, HELD_MS);
    up.then(giveBack, giveBack);
  }

  giveBack(): void {
    if (this.#state === "given back") return;
    this.#state = "given back";
    clearTimeout(this.#timer);
    this.#granted.resolve(false);
    this.#leave();
  }
}
