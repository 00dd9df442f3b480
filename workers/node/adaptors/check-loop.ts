import { pause } from "../../../src/bounded-wait.ts";
import { afterCheck, type CheckState, UNCHECKED } from "../../../src/domain/stitch/check-state.ts";
import { checkText, type HealthCheck } from "../../../src/domain/stitch/check.ts";
import type { Health } from "../../../src/domain/stitch/stitch.ts";
import type { Finding, Probe } from "./probe.ts";

/** Until a program is green for the first time, it is looked at more often than its interval says: its start waits for that. */
const EAGER_MS = 500;
/** A timer that is later than this shows that this worker was held up, and not the program. */
const HELD_UP_MS = 100;

type CheckLoopOptions = {
  readonly check: HealthCheck;
  readonly probe: Probe;
  /** Called when the health changes. `failure`: why the last check failed; null if it succeeded. */
  readonly onHealth: (health: Health, failure: string | null) => void;
  /** Writes a remark to the stitch's log. */
  readonly say: (text: string) => void;
};

/** The checks of one run of a program, one after the other: a check begins only after the one before it has ended. */
export class CheckLoop {
  readonly #options: CheckLoopOptions;
  readonly #green = Promise.withResolvers<void>();
  readonly #stop = new AbortController();
  #state: CheckState = UNCHECKED;
  #failure: string | null = null;
  #running: Promise<void> | null = null;

  constructor(options: CheckLoopOptions) {
    this.#options = options;
  }

  /** Resolves when the program is green for the first time. */
  get green(): Promise<void> {
    return this.#green.promise;
  }

  get hasBegun(): boolean {
    return this.#running !== null;
  }

  /** Why the last check did not succeed; null if it did, or if there was none. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Makes the first check at once. Safe to repeat; does nothing after `stop`. */
  start(): void {
    if (!this.#stop.signal.aborted) this.#running ??= this.#run();
  }

  /** Gives up the check that is being made. Resolves when nothing of it is left, or cannot be ended. Safe to repeat. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { intervalMs } = this.#options.check;
    while (!signal.aborted) {
      const beganAtMs = performance.now();
      const finding = await this.#look();
      // The program is being stopped: what it shows now is no sign of its health.
      if (signal.aborted) return;
      this.#take(finding);
      const everyMs = this.#state.health === "missing" ? Math.min(intervalMs, EAGER_MS) : intervalMs;
      await pause(Math.max(0, beganAtMs + everyMs - performance.now()), signal);
    }
  }

  async #look(): Promise<Finding> {
    const giveUp = new AbortController();
    const end = () => giveUp.abort();
    this.#stop.signal.addEventListener("abort", end);
    const { timeoutMs } = this.#options.check;
    let timer: NodeJS.Timeout | undefined;
    const wait = (ms: number, isLast: boolean) => {
      const dueAtMs = performance.now() + ms;
      timer = setTimeout(() => {
        const lateMs = performance.now() - dueAtMs;
        // The answer may be there, and this worker was too busy to read it.
        if (lateMs > HELD_UP_MS && !isLast) wait(Math.min(lateMs, timeoutMs), true);
        else end();
      }, ms);
    };
    wait(timeoutMs, false);
    try {
      return await this.#options.probe(giveUp.signal);
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener("abort", end);
    }
  }

  #take(finding: Finding): void {
    const { check } = this.#options;
    const reason = this.#reasonOf(finding);
    this.#failure = reason === null ? null : `${checkText(check)}: ${reason}`;
    // The node could not look. The program must not pay for that.
    if (finding.kind === "not made") return;
    const before = this.#state;
    this.#state = afterCheck(before, reason === null, check);
    this.#tell(before.health);
  }

  #reasonOf(finding: Finding): string | null {
    switch (finding.kind) {
      case "well":
        return null;
      case "failed":
        return finding.reason;
      case "given up": {
        const { timeoutMs } = this.#options.check;
        return `no answer within ${timeoutMs} ms${finding.said === "" ? "" : `: ${finding.said}`}`;
      }
      case "not made":
        return `the node could not look: ${finding.reason}`;
    }
  }

  #tell(before: Health): void {
    const { check, onHealth, say } = this.#options;
    const { health, failures } = this.#state;
    if (health === "missing" && failures === check.redAfter)
      say(`it is not green yet: ${failures} checks have failed since its start, the last: ${this.#failure}`);
    if (health === before) return;
    if (health === "red") say(`its check is red: ${failures} checks in a row have failed, the last: ${this.#failure}`);
    if (health === "green") this.#green.resolve();
    onHealth(health, this.#failure);
  }
}
