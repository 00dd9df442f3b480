const FIRST_BYTES = 256;
/** A buffer up to this size is reused; a larger one is released, because a node holds two for each of its stitches. */
const KEPT_BYTES = 4096;
const NONE = Buffer.alloc(0);

/**
 * Collects bytes that come piece by piece in one buffer that doubles as it fills. This takes linear time, and no piece keeps
 * the chunk in memory that it is a part of.
 */
export class GatheredBytes {
  readonly #maxBytes: number;
  #buffer = NONE;
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get length(): number {
    return this.#length;
  }

  /** The memory it holds, filled or not: at most `maxBytes`. */
  get capacity(): number {
    return this.#buffer.length;
  }

  /** @throws RangeError if it would hold more than `maxBytes`: the caller decides what to leave out. */
  add(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#maxBytes) throw new RangeError(`${length} bytes gathered, ${this.#maxBytes} allowed`);
    if (length > this.#buffer.length) {
      const doubled = Math.min(Math.max(FIRST_BYTES, 2 * this.#buffer.length), this.#maxBytes);
      const grown = Buffer.allocUnsafeSlow(Math.max(length, doubled));
      this.#buffer.copy(grown, 0, 0, this.#length);
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#length);
    this.#length = length;
  }

  /** Returns the bytes and empties the buffer. The bytes are valid only until the next `add`. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#length);
    this.#length = 0;
    if (this.#buffer.length > KEPT_BYTES) this.#buffer = NONE;
    return taken;
  }
}
