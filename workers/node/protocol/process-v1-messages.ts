import * as z from "zod";
import { linesOf, MAX_LINE_BYTES } from "./line-splitter.ts";

/** A message from a stitch to its node. */
export type StitchMessage =
  | { readonly command: "sync" | "ack" | "fail"; readonly id: number }
  | {
      readonly command: "data";
      /** The Id of the message that it answers, or that Id + 1; null if it answers none. */
      readonly id: number | null;
      readonly data: string;
      readonly channel: string | null;
      readonly toStitch: string | null;
      readonly toGroup: string | null;
    }
  /** The lines are made while they are read: a message may hold 500,000. */
  | { readonly command: "logs"; readonly lines: Iterable<string> };

/** The text names the field, so that the author of the stitch knows what to fix. */
const wrong =
  (field: string, expected: string) =>
  ({ input }: { input?: unknown }): string =>
    input == null ? `${field} is missing: expected ${expected}` : `${field}: expected ${expected}, got ${shown(input)}`;

const number = (value: unknown): unknown =>
  typeof value === "string" && /^\d+$/.test(value) && Number.isSafeInteger(Number(value)) ? Number(value) : value;
const wrongId = wrong("Id", "a whole number up to 2^53 - 1, or a string of its digits");
const id = z.preprocess(number, z.int({ error: wrongId }).min(0, { error: wrongId }));
/** 0 is never a message's Id: a stitch in a language without optional numbers sends 0 if it answers nothing. */
const answered = z.preprocess(
  (value) => (value == null || value === "" || number(value) === 0 ? null : value),
  id.nullable(),
);

/** Some stitches send an empty string for "none". */
const optionalText = (field: string) =>
  z
    .string({ error: wrong(field, "a string") })
    .nullish()
    .transform((value) => value || null);

const jsonText = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));
const data = z
  .unknown()
  .optional()
  .transform((value) => (value == null ? "" : jsonText(value)));

/** A text of several lines becomes several log lines, because a log consists of single lines. */
function* logLines(values: readonly unknown[]): Generator<string, void> {
  for (const value of values) {
    const text = value == null ? "" : jsonText(value);
    if (text.length < SHORT && !text.includes("\n") && !text.endsWith("\r")) yield text.toWellFormed();
    else yield* linesOf(Buffer.from(text), MAX_LINE_BYTES);
  }
}
/** A shorter text is never cut, whatever its characters: each takes at most three bytes per UTF-16 unit. */
const SHORT = MAX_LINE_BYTES / 3;

/** Converts lines that hold objects one extra time: too deep nesting must be found before the first line is passed on. */
const checkDepth = (values: readonly unknown[]): void => {
  if (values.some((value) => typeof value === "object")) JSON.stringify(values);
};

/** .NET's usual JSON library, if it writes type names, wraps an array: `{"$type": …, "$values": […]}`. */
const unwrapped = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "$values" in value ? value.$values : value;
const logs = z.preprocess(
  (value) => (typeof value === "string" ? [value] : unwrapped(value)),
  z
    .custom<readonly unknown[]>(Array.isArray, { error: wrong("Logs", "an array of lines") })
    .transform((values): Iterable<string> => {
      checkDepth(values);
      return { [Symbol.iterator]: () => logLines(values) };
    }),
);

const wrongCommand = wrong("Command", "sync, ack, fail, data or logs");
const message = z.discriminatedUnion(
  "command",
  [
    z.object({ command: z.enum(["sync", "ack", "fail"]), id }),
    z
      .object({
        command: z.literal("data"),
        id: answered,
        data,
        datachannel: optionalText("DataChannel"),
        tostitchinstanceid: optionalText("ToStitchInstanceId"),
        togroupname: optionalText("ToGroupName"),
      })
      .transform(({ datachannel, tostitchinstanceid, togroupname, ...rest }) => ({
        ...rest,
        channel: datachannel,
        toStitch: tostitchinstanceid,
        toGroup: togroupname,
      })),
    z
      .object({ command: z.literal("logs"), logs })
      .transform(({ command, logs: lines }): StitchMessage => ({ command, lines })),
  ],
  { error: ({ input }) => wrongCommand({ input: (input as { command?: unknown }).command }) },
);

const FIELDS = new Set(["command", "id", "data", "datachannel", "tostitchinstanceid", "togroupname", "logs"]);

/**
 * Checks an object that a stitch wrote. Field names and the command are matched without regard to case. Of fields whose names
 * differ only in case, the last one counts, as with duplicates in JSON. Numbers in `Data` that is not a string are JavaScript
 * numbers. Throws nothing.
 */
export function checkStitchMessage(written: object): { readonly message: StitchMessage } | { readonly wrong: string } {
  const fields: Record<string, unknown> = {};
  // Object.keys, not Object.entries: a message may hold 100,000 fields, and making a pair for each is slower than reading them.
  const values = written as Readonly<Record<string, unknown>>;
  for (const name of Object.keys(values)) {
    const field = name.toLowerCase();
    if (FIELDS.has(field)) fields[field] = values[name];
  }
  const { command } = fields;
  if (typeof command === "string") fields["command"] = command.trim().toLowerCase();
  try {
    const { data: checked, error } = message.safeParse(fields);
    return checked === undefined
      ? { wrong: error.issues.map((issue) => issue.message).join("; ") }
      : { message: checked };
  } catch {
    // Writing nested JSON needs stack space; reading it does not.
    return { wrong: "Data: nested too deeply" };
  }
}

const SHOWN_CHARACTERS = 40;

function shown(value: unknown): string {
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  const text = JSON.stringify(typeof value === "string" ? value.slice(0, SHOWN_CHARACTERS + 1) : value);
  return text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
}
