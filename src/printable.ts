import { stripVTControlCharacters } from "node:util";

/** What steers a terminal: control characters, those of eight bits among them, and what turns the direction of writing. */
const STEERING = /[\p{Cc}\p{Bidi_Control}]/gu;

/** Text from elsewhere, such as a label or a process's output, made safe to show on one line. */
export function printable(text: string): string {
  return text.replace(STEERING, "�");
}

/** As `printable`, but tabs stay, and colours are left out whole. */
export function printableLine(line: string): string {
  return stripVTControlCharacters(line).split("\t").map(printable).join("\t");
}

/** As `printableLine`, of several lines. */
export const printableText = (text: string): string => text.split("\n").map(printableLine).join("\n");

/** JSON that means the same and may be shown on a terminal: of what would steer that, JSON itself escapes some only. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(
    STEERING,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
