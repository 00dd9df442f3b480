import type { Command } from "commander";
import { askIds } from "./ids.ts";
import { FILES_LINE } from "./scripts.ts";
import { suggest } from "./suggest.ts";

/** The lines that a completion script gets for the words after `stitch`. */
export async function complete(program: Command, words: readonly string[]): Promise<string> {
  const { values, files } = await suggest(program, words, askIds);
  const lines = files ? [FILES_LINE] : values.map(({ value, text }) => `${value}\t${oneLine(text)}`);
  return lines.map((line) => `${line}\n`).join("");
}

/** Of a description the part that fits beside a word. */
const oneLine = (text: string): string => (text.split(/\n|[.;:] | \(/)[0] ?? "").trim();
