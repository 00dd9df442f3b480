import { type LogLine, logLine, type LogPosition, type LogSource } from "../../../src/domain/stitch/log-line.ts";

const NEWLINE = 10;

/** One line of a log file: JSON `{at, source, line}`, and a line break. */
export function encode(source: LogSource, line: string, nowMs: number, continued = false): Buffer {
  const entry: LogLine = { at: new Date(nowMs).toISOString(), source, line, ...(continued ? { continued } : {}) };
  return Buffer.from(`${JSON.stringify(entry)}\n`);
}

/** null for a line that is not an entry: it is empty or was cut off. */
export function decode(entry: Buffer): LogLine | null {
  if (entry.length === 0) return null;
  try {
    return logLine.safeParse(JSON.parse(entry.toString("utf8"))).data ?? null;
  } catch {
    return null;
  }
}

/** The whole entries in a piece of a file that begins at `offset`, with the position after each. */
export function linesOf(chunk: Buffer, file: number, offset: number) {
  const lines: { line: LogLine; after: LogPosition }[] = [];
  let begin = 0;
  for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, begin)) {
    const line = decode(chunk.subarray(begin, end));
    begin = end + 1;
    if (line !== null) lines.push({ line, after: { file, offset: offset + begin } });
  }
  return lines;
}
