import { compareRevisions, type Revision } from "../../../src/domain/names/revision.ts";
import { EventLoopThrottle } from "./event-loop-throttle.ts";

/** Work on the stitches of one node: in order for each stitch, at the same time for different ones. */
export class StepQueue {
  /** By stitch id, the end of the last work. */
  readonly #last = new Map<string, Promise<unknown>>();
  /** By stitch id, the newest revision of the steps that wait or are under way. */
  readonly #newest = new Map<string, Revision>();
  readonly #throttle: EventLoopThrottle;

  /** @param steadyNowMs a clock that nobody sets. */
  constructor(steadyNowMs: () => number) {
    this.#throttle = new EventLoopThrottle(steadyNowMs);
  }

  /** Does any work on this stitch wait, or run? */
  isBusy(id: string): boolean {
    return this.#last.has(id);
  }

  /** Runs `work` after all other work on this stitch has ended, however that ended. */
  run<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(id) ?? Promise.resolve();
    const running = before
      // Its caller has been told of that failure.
      .catch(() => undefined)
      .then(async () => {
        await this.nextTurn();
        return work();
      });
    this.#last.set(id, running);
    const forget = () => {
      if (this.#last.get(id) !== running) return;
      this.#last.delete(id);
      this.#newest.delete(id);
    };
    running.then(forget, forget);
    return running;
  }

  /** See `EventLoopThrottle.next`. */
  nextTurn(): Promise<void> {
    return this.#throttle.next();
  }

  /** The newest revision of the steps of this stitch that wait or are under way; null where there is none. */
  newest(id: string): Revision | null {
    return this.#newest.get(id) ?? null;
  }

  /**
   * A step of this revision is about to wait. @param applied the revision of the last step that was applied to the stitch.
   * @returns whether it is newer than every step before it: what is under way need not be waited for.
   */
  announce(id: string, revision: Revision, applied: Revision): boolean {
    if (compareRevisions(revision, this.newest(id) ?? applied) <= 0) return false;
    this.#newest.set(id, revision);
    return true;
  }
}
