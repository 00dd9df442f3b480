import { stripVTControlCharacters } from "node:util";

/** Characters that control a terminal: control characters, also those of eight bits, and changes of the text direction. */
const STEERING = /[\p{Cc}\p{Bidi_Control}]/gu;

/** Text from elsewhere, such as a label or a process's output, made safe to show on one line. */
export function printable(text: string): string {
  return text.replace(STEERING, "�");
}

/** Like `printable`, but keeps tabs, and removes colour codes completely. */
export function printableLine(line: string): string {
  return stripVTControlCharacters(line).split("\t").map(printable).join("\t");
}

/** Like `printableLine`, for several lines. */
export const printableText = (text: string): string => text.split("\n").map(printableLine).join("\n");

/** JSON with the same meaning that is safe on a terminal. JSON itself escapes only some characters that control a terminal. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(
    STEERING,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
