const FIRST_LINES = 10;
const LAST_LINES = 10;
const LINE_CHARS = 400;
/** Characters of the first lines, and of the last lines. Outcomes hold both, and a job may have a thousand outcomes. */
const CHARS = 2048;

/**
 * Keeps the first and the last lines that a program printed. The reason of a failure is in the last lines or, if the output
 * ends with a stack trace, before that. A line of minified code must not fill all the room.
 */
export class FirstAndLastLines {
  readonly #first: string[] = [];
  #last: string[] = [];
  #leftOut = 0;
  #isFull = false;

  push(line: string): void {
    const text = line.slice(0, LINE_CHARS);
    this.#isFull ||= this.#first.length >= FIRST_LINES || lengthOf(this.#first) + text.length > CHARS;
    if (!this.#isFull) {
      this.#first.push(text);
      return;
    }
    this.#last.push(text);
    while (this.#last.length > LAST_LINES || lengthOf(this.#last) > CHARS) {
      this.#last.shift();
      this.#leftOut += 1;
    }
  }

  /** Empty if nothing was printed. */
  get text(): string {
    const between = this.#leftOut === 0 ? [] : [`… ${this.#leftOut} lines left out`];
    return [...this.#first, ...between, ...this.#last].join("\n");
  }
}

const lengthOf = (lines: readonly string[]): number => lines.reduce((sum, line) => sum + line.length + 1, 0);
