import type { WriteStream } from "node:tty";
import { styleText } from "node:util";
import { printableJson } from "../../printable.ts";
import { type Column, renderFacts, renderTable } from "./table.ts";

type Stream = NodeJS.WritableStream & Partial<Pick<WriteStream, "isTTY" | "columns">>;
type Style = Parameters<typeof styleText>[0];

/** Where a command writes: answers to stdout, messages to stderr. Colours only on a terminal, and not under `NO_COLOR`. */
export class Output {
  readonly #stdout: Stream;
  readonly #stderr: Stream;
  /** true: stdout carries the API's body and nothing else. */
  readonly json: boolean;

  constructor(stdout: Stream, stderr: Stream, json: boolean) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.json = json;
  }

  /** One whose answers are messages too. */
  get beside(): Output {
    return new Output(this.#stderr, this.#stderr, false);
  }
  get stderr(): Stream {
    return this.#stderr;
  }
  /** Can progress be drawn over itself? */
  get messagesOnTerminal(): boolean {
    return this.#stderr.isTTY === true;
  }
  /** Would characters that steer a terminal steer one? */
  get answersOnTerminal(): boolean {
    return this.#stdout.isTTY === true;
  }
  /** Columns; undefined where it is not known. */
  get messageWidth(): number | undefined {
    return widthOf(this.#stderr);
  }

  /** A line of the answer. */
  print(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** Styled for a line of the answer. */
  answerStyled(style: Style, text: string): string {
    return this.#styled(style, text, this.#stdout);
  }

  /** A line for people, beside the answer. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  /** The API's body, as one line that steers no terminal. */
  body(value: unknown): void {
    this.print(printableJson(value));
  }

  /** `none`: what to say where there are no rows. */
  table(rows: readonly Readonly<Record<string, string>>[], columns: readonly Column[], none: string): void {
    if (rows.length === 0) {
      this.note(none);
      return;
    }
    const [titles = "", ...lines] = renderTable(rows, columns, widthOf(this.#stdout)).split("\n");
    this.print([this.#styled("bold", titles, this.#stdout), ...lines].join("\n"));
  }

  facts(facts: Readonly<Record<string, string>>): void {
    this.print(renderFacts(facts));
  }

  /** Styled for messages. */
  styled(style: Style, text: string): string {
    return this.#styled(style, text, this.#stderr);
  }

  #styled(style: Style, text: string, stream: Stream): string {
    return styleText(style, text, { stream });
  }
}

/** Columns of a terminal; undefined where there is none, or it does not know (some pseudo-terminals say 0). */
function widthOf(stream: Stream): number | undefined {
  return stream.isTTY === true && (stream.columns ?? 0) > 0 ? stream.columns : undefined;
}
