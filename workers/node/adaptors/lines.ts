import type { Readable } from "node:stream";

/** A line longer than this is cut, and the rest of it dropped: a program that never ends a line must not fill the memory. */
export const MAX_LINE_BYTES = 64 * 1024;

/**
 * Reads a stream line by line until it ends or breaks. Memory is bounded by one line and one chunk.
 * @param take gets each line, without its end; a promise from it stops the reading until it resolves.
 */
export async function readLines(stream: Readable, take: (line: string) => Promise<void> | null): Promise<void> {
  let pending: Buffer[] = [];
  let length = 0;
  const flush = async () => {
    const line = Buffer.concat(pending).toString("utf8");
    pending = [];
    length = 0;
    const wait = take(line.endsWith("\r") ? line.slice(0, -1) : line);
    if (wait !== null) await wait;
  };
  const add = (part: Buffer) => {
    const room = MAX_LINE_BYTES - length;
    if (room > 0) pending.push(part.length > room ? part.subarray(0, room) : part);
    length = Math.min(MAX_LINE_BYTES, length + part.length);
  };
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10, from); at !== -1; at = chunk.indexOf(10, from)) {
        add(chunk.subarray(from, at));
        await flush();
        from = at + 1;
      }
      if (from < chunk.length) add(chunk.subarray(from));
    }
  } catch {
    // The pipe broke or was destroyed: that is the end of the output, and what has come is kept.
  }
  if (length > 0) await flush();
}
