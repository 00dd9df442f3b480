import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { STATE_FILES } from "../files/bounded-files.ts";
import { FILE_MODE, readOwnFile } from "../files/own-files.ts";

/**
 * The file's text: the end of the lease in milliseconds since 1970, and the
 * machine's boot id. The length is fixed, because each write overwrites the last.
 */
const TEXT = /^(\d{15}) (\S{36})$/;

/**
 * Keeps the end of this node's lease, by the machine's clock, in `last-beat` in the state folder. If the next run of the
 * worker finds no Redis, it checks here whether the lease may still run: then nobody can have given its stitches to other
 * nodes. After a restart of the machine this is unknown, because its clock may have been set back.
 */
export class LastBeat {
  readonly #path: string;
  readonly #bootId: string | null;
  readonly #onError: (error: unknown) => void;
  #file: FileHandle | null = null;
  #writing: Promise<void> | null = null;
  /** The lease end to write after the current write; null if there is none. */
  #next: number | null = null;
  #hasFailed = false;
  #isOver = false;

  /**
   * @param bootId the boot id of the machine; null if the system has none: then no lease is known.
   * @param onError called once when writes begin to fail: the next run of the worker then sees an older lease end.
   */
  constructor(dir: string, bootId: string | null, onError: (error: unknown) => void) {
    this.#path = join(dir, "last-beat");
    this.#bootId = bootId;
    this.#onError = onError;
  }

  /**
   * Milliseconds that the lease of the last run of the worker may
   * still run; 0 or less if that is unknown. Call this at the start.
   */
  leftMs(nowMs: number, leaseMs: number): number {
    const [, endMs, bootId] = TEXT.exec(this.#read()) ?? [];
    if (endMs === undefined || this.#bootId === null || bootId !== this.#bootId) return 0;
    const leftMs = Number(endMs) - nowMs;
    // Longer than any lease: the clock was set back.
    return leftMs > leaseMs ? 0 : leftMs;
  }

  #read(): string {
    try {
      return readOwnFile(this.#path)?.toString() ?? "";
    } catch (error) {
      this.#onError(error);
      return "";
    }
  }

  /** Records that the lease holds until `endMs`. Does not wait for the disk, because a heartbeat must not. */
  holdsUntil(endMs: number): void {
    if (!this.#isOver) this.#note(endMs);
  }

  /** Records that the lease was given back; later calls change nothing. Resolves when this is on disk or cannot be written. */
  async isGivenBack(): Promise<void> {
    this.#isOver = true;
    this.#note(0);
    await this.#writing;
  }

  /** Resolves when everything recorded before is on disk. Safe to repeat. */
  async close(): Promise<void> {
    await this.#writing;
    if (this.#file === null) return;
    await STATE_FILES.run(async () => this.#file?.close());
    this.#file = null;
  }

  #note(endMs: number): void {
    this.#next = endMs;
    this.#writing ??= this.#write().finally(() => (this.#writing = null));
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    while (this.#next !== null) {
      const text = `${String(Math.round(this.#next)).padStart(15, "0")} ${this.#bootId ?? "-".repeat(36)}`;
      this.#next = null;
      try {
        await STATE_FILES.run(() => this.#put(text));
        this.#hasFailed = false;
      } catch (error) {
        if (!this.#hasFailed) this.#onError(error);
        this.#hasFailed = true;
      }
    }
  }

  async #put(text: string): Promise<void> {
    this.#file ??= await open(this.#path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, FILE_MODE);
    await this.#file.write(text, 0);
  }
}
