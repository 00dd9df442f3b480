import { accessSync, constants, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { orLate, pause } from "../../bounded-wait.ts";
import { ConfigError } from "../../config.ts";
import { errorCode } from "../../error-text.ts";

/** `infra/bin/healthy` takes the part for well for 20 s: one look may be late, and the next one slow. */
const EVERY_MS = 5000;
const ANSWER_MS = 3000;

/**
 * Says to whoever supervises a part (systemd, a container engine) that it works, by a file that is written every 5 s as long as it
 * does. For parts that nobody can connect to; and a file costs a check no process.
 */
export class HealthFile {
  readonly #path: string;
  readonly #stopped = new AbortController();
  #onError: (error: unknown) => void = () => undefined;

  /** Takes away what an earlier run has left. @throws ConfigError if the file could not be written. */
  constructor(path: string) {
    this.#path = path;
    try {
      rmSync(path, { force: true });
      accessSync(dirname(path), constants.W_OK);
    } catch (error) {
      throw new ConfigError(
        `STITCH_HEALTH_FILE: cannot be written (${String(errorCode(error))}); name a file in a folder of its user`,
      );
    }
  }

  /** @param works see `RunningPart`. @param onError called when the file cannot be written, once until it can be again. */
  keep(works: () => Promise<void>, onError: (error: unknown) => void): void {
    this.#onError = onError;
    void this.#keep(works);
  }

  async #keep(works: () => Promise<void>): Promise<void> {
    let hasFailed = false;
    for (const { signal } = this.#stopped; !signal.aborted; await pause(EVERY_MS, signal)) {
      const isWell = works().then(
        () => true,
        () => false,
      );
      if ((await orLate(isWell, ANSWER_MS)) !== true || signal.aborted) continue;
      try {
        // Not empty: to write nothing into an empty file would not change its time.
        writeFileSync(this.#path, `${new Date().toISOString()}\n`);
        hasFailed = false;
      } catch (error) {
        if (!hasFailed) this.#onError(error);
        hasFailed = true;
      }
    }
  }

  /** The part stops: it does not work any more. Never throws: a part must stop in good order all the same. Safe to repeat. */
  end(): void {
    this.#stopped.abort();
    try {
      rmSync(this.#path, { force: true, recursive: true });
    } catch (error) {
      this.#onError(error);
    }
  }
}
