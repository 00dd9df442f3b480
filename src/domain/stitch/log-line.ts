import * as z from "zod";

/** Where a line of a stitch's log comes from: its two outputs, its protocol's `logs` message, the node that hosts it. */
export const LOG_SOURCES = ["stdout", "stderr", "log", "system"] as const;
export type LogSource = (typeof LOG_SOURCES)[number];

export const logLine = z.object({
  at: z.string(),
  source: z.enum(LOG_SOURCES),
  line: z.string(),
  /** The line had no line end when it was read: the next line of this source continues it. */
  continued: z.literal(true).exactOptional(),
});
export type LogLine = z.output<typeof logLine>;

/** A position in the log of one stitch on one node: the number of the file, counted from the first, and the byte in it. */
export type LogPosition = { readonly file: number; readonly offset: number };

export const logPosition = z
  .string()
  .regex(/^\d{1,10}\.\d{1,10}$/)
  .transform((text): LogPosition => {
    const [file, offset] = text.split(".");
    return { file: Number(file), offset: Number(offset) };
  });
export const formatPosition = ({ file, offset }: LogPosition): string => `${file}.${offset}`;

/** A line of a log that is followed. `after`: the position to go on from after this line; null if the line is in no file. */
const followedLine = logLine.extend({ after: z.string().nullable() });
export type FollowedLine = z.output<typeof followedLine>;

/** The lines of a log that a node sends together. `last`: the node sends no more. */
export const logBatch = z.object({ lines: z.array(followedLine), last: z.boolean() });
export type LogBatch = z.output<typeof logBatch>;
