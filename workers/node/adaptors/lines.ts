import type { Readable } from "node:stream";
import { type Line, LineSplitter, textOf } from "./line-splitter.ts";

/** A line longer than this is cut, and the rest of it dropped: a program that never ends a line must not fill the memory. */
export const MAX_LINE_BYTES = 64 * 1024;

/**
 * Reads a stream line by line until it ends or breaks. Memory is bounded by one line and one chunk.
 * @param take gets each line, without its end; a promise from it stops the reading until it resolves.
 */
export async function readLines(stream: Readable, take: (line: string) => Promise<void> | null): Promise<void> {
  const splitter = new LineSplitter(MAX_LINE_BYTES);
  const hand = async (lines: Iterable<Line>) => {
    for (const line of lines) {
      const wait = take(textOf(line, MAX_LINE_BYTES));
      if (wait !== null) await wait;
    }
  };
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) await hand(splitter.push(chunk));
  } catch {
    // The pipe broke or was destroyed: that is the end of the output, and what has come is kept.
  }
  await hand(splitter.end());
}
