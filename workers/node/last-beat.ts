import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { STATE_FILES } from "./bounded-files.ts";
import { FILE_MODE, readOwnFile } from "./own-files.ts";

/** Milliseconds since 1970, always of that many characters: one is written over the other. */
const TEXT = /^\d{15}$/;
const asText = (atMs: number): string => String(Math.round(atMs)).padStart(15, "0");

/**
 * When this node last had the lease, in `last-beat` in its folder, by the machine's clock. Its next life, if it finds no Redis,
 * tells by this whether the lease may run still: then nobody can have given its stitches to other nodes.
 */
export class LastBeat {
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  #file: FileHandle | null = null;
  #writing: Promise<void> | null = null;
  /** What is to be written once the disk has taken what it is at; null where nothing is. */
  #next: number | null = null;
  #hasFailed = false;

  /** @param onError told once where it cannot be written any more: the next life then takes the lease for older. */
  constructor(dir: string, onError: (error: unknown) => void) {
    this.#path = join(dir, "last-beat");
    this.#onError = onError;
  }

  /** How long ago it was; infinite where that is not known, or the clock was set back. To be asked at the start. */
  ageMs(nowMs: number): number {
    const text = this.#read();
    const ageMs = TEXT.test(text) ? nowMs - Number(text) : Number.POSITIVE_INFINITY;
    return ageMs < 0 ? Number.POSITIVE_INFINITY : ageMs;
  }

  #read(): string {
    try {
      return readOwnFile(this.#path)?.toString() ?? "";
    } catch (error) {
      this.#onError(error);
      return "";
    }
  }

  /** The lease was renewed by what was asked for then. Waits for nothing: a heartbeat must not. */
  was(atMs: number): void {
    this.#next = atMs;
    this.#writing ??= this.#write().finally(() => (this.#writing = null));
  }

  /** The lease was given back, and what is written of it is void. Resolves when that is on disk. */
  async forget(): Promise<void> {
    this.was(0);
    await this.#writing;
  }

  /** Resolves when what was told before is on disk. Safe to repeat. */
  async close(): Promise<void> {
    await this.#writing;
    if (this.#file === null) return;
    await STATE_FILES.run(async () => this.#file?.close());
    this.#file = null;
  }

  /** Never rejects. */
  async #write(): Promise<void> {
    while (this.#next !== null) {
      const text = asText(this.#next);
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
