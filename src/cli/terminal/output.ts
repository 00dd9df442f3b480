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

  /** An output that writes its answers to stderr, as messages. */
  get beside(): Output {
    return new Output(this.#stderr, this.#stderr, false);
  }
  get stderr(): Stream {
    return this.#stderr;
  }
  /** Is stderr a terminal, so that progress can be redrawn in place? */
  get messagesOnTerminal(): boolean {
    return this.#stderr.isTTY === true;
  }
  /** Is stdout a terminal, on which control characters would take effect? */
  get answersOnTerminal(): boolean {
    return this.#stdout.isTTY === true;
  }
  /** Columns; undefined if unknown. */
  get messageWidth(): number | undefined {
    return widthOf(this.#stderr);
  }

  /** Prints a line of the answer. */
  print(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** Styles text for a line of the answer. */
  answerStyled(style: Style, text: string): string {
    return this.#styled(style, text, this.#stdout);
  }

  /** Writes a line for people to stderr, beside the answer. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  /** Prints the API's body as one line, with control characters escaped. */
  body(value: unknown): void {
    this.print(printableJson(value));
  }

  /** `none`: the message if there are no rows. */
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

  /** Styles text for a message. */
  styled(style: Style, text: string): string {
    return this.#styled(style, text, this.#stderr);
  }

  #styled(style: Style, text: string, stream: Stream): string {
    return styleText(style, text, { stream });
  }
}

/** Columns of a terminal; undefined without a terminal, or if unknown (some pseudo-terminals say 0). */
function widthOf(stream: Stream): number | undefined {
  return stream.isTTY === true && (stream.columns ?? 0) > 0 ? stream.columns : undefined;
}
