import { createWriteStream, mkdirSync, renameSync, statSync, type WriteStream } from "node:fs";
import { dirname } from "node:path";

/** A log file is put aside at this size; one former file is kept. */
const MAX_BYTES = 5 * 1024 * 1024;

/** The lines of one stitch, kept on its node as JSON lines `{at, source, line}`, at most twice `MAX_BYTES`. */
export class StitchLog {
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  #file: WriteStream | null = null;
  #bytes = 0;

  constructor(path: string, onError: (error: unknown) => void) {
    this.#path = path;
    this.#onError = onError;
  }

  /** @returns a promise while the disk is behind: write no more until it resolves. */
  write(source: string, line: string, nowMs: number): Promise<void> | null {
    const text = `${JSON.stringify({ at: new Date(nowMs).toISOString(), source, line })}\n`;
    if (this.#file !== null && this.#bytes > MAX_BYTES) this.#rotate();
    this.#file ??= this.#open();
    this.#bytes += text.length;
    const file = this.#file;
    if (file.write(text) || file.destroyed) return null;
    return new Promise((resolve) => {
      const done = () => {
        file.off("drain", done);
        file.off("close", done);
        resolve();
      };
      file.once("drain", done);
      file.once("close", done);
    });
  }

  close(): void {
    this.#file?.end();
    this.#file = null;
  }

  #open(): WriteStream {
    mkdirSync(dirname(this.#path), { recursive: true });
    this.#bytes = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    const file = createWriteStream(this.#path, { flags: "a" });
    // A full disk costs log lines, not the stitch.
    file.on("error", this.#onError);
    return file;
  }

  #rotate(): void {
    this.close();
    renameSync(this.#path, `${this.#path}.1`);
  }
}
