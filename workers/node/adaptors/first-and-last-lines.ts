const FIRST_LINES = 10;
const LAST_LINES = 10;
const LINE_CHARS = 400;
/** Of the first lines, and of the last. Outcomes hold both, and a job may have a thousand of them. */
const CHARS = 2048;

/**
 * The first and the last lines of what a program printed. Why it failed stands in the last lines or, where it ends with a
 * stack, before that; a line of minified code must not fill it all.
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

  /** Empty where nothing was printed. */
  get text(): string {
    const between = this.#leftOut === 0 ? [] : [`… ${this.#leftOut} lines left out`];
    return [...this.#first, ...between, ...this.#last].join("\n");
  }
}

const lengthOf = (lines: readonly string[]): number => lines.reduce((sum, line) => sum + line.length + 1, 0);
