import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { STATE_FILES } from "../files/bounded-files.ts";
import { FILE_MODE, readOwnFile } from "../files/own-files.ts";

/** When the lease ends, in milliseconds since 1970, and since which start of the machine; of one length: one is written over the other. */
const TEXT = /^(\d{15}) (\S{36})$/;

/**
 * Until when this node has the lease, in `last-beat` in its folder, by the machine's clock. Its next life, if it finds no Redis,
 * tells by this whether the lease may run still: then nobody can have given its stitches to other nodes. After a restart of the
 * machine that is not known: its clock may have been set back.
 */
export class LastBeat {
  readonly #path: string;
  readonly #bootId: string | null;
  readonly #onError: (error: unknown) => void;
  #file: FileHandle | null = null;
  #writing: Promise<void> | null = null;
  /** What is to be written once the disk has taken what it is at; null where nothing is. */
  #next: number | null = null;
  #hasFailed = false;
  #isOver = false;

  /**
   * @param bootId of this start of the machine; null where the system tells none: then no lease is known.
   * @param onError told once where it cannot be written any more: the next life then takes the lease for older.
   */
  constructor(dir: string, bootId: string | null, onError: (error: unknown) => void) {
    this.#path = join(dir, "last-beat");
    this.#bootId = bootId;
    this.#onError = onError;
  }

  /** Milliseconds that the lease of the last life may run still; not above 0 where that is not known. To be asked at the start. */
  leftMs(nowMs: number, leaseMs: number): number {
    const [, endMs, bootId] = TEXT.exec(this.#read()) ?? [];
    if (endMs === undefined || this.#bootId === null || bootId !== this.#bootId) return 0;
    const leftMs = Number(endMs) - nowMs;
    // Longer than any lease is asked for: the clock was set back.
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

  /** The lease holds until then. Waits for nothing: a heartbeat must not. */
  holdsUntil(endMs: number): void {
    if (!this.#isOver) this.#note(endMs);
  }

  /** The lease was given back; what comes late changes nothing. Resolves when that is on disk, or cannot be written. */
  async isGivenBack(): Promise<void> {
    this.#isOver = true;
    this.#note(0);
    await this.#writing;
  }

  /** Resolves when what was told before is on disk. Safe to repeat. */
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
