import type { Argument, Command, Option } from "commander";
import { optionOf, optionsOf, readTyped, subcommands, type Typed } from "./typed.ts";

export type Suggestion = { readonly value: string; readonly text: string };

/** What has ids that the API knows. */
export type Kind = "node" | "stitch" | "group";

export type Suggestions = { readonly values: readonly Suggestion[]; readonly files: boolean };

/** @returns the ids of one kind; `current` is the word that they should begin with, `url` the value of `--url`. */
export type AskIds = (kind: Kind, current: string, url: string | null) => Promise<readonly Suggestion[]>;

const FILES: Suggestions = { values: [], files: true };
const KINDS: readonly string[] = ["node", "stitch", "group"] satisfies Kind[];
const isKind = (word: string): word is Kind => KINDS.includes(word);

/**
 * What the last of the words may become: commands, options and values, as the program declares them.
 * @param words those after `stitch`; the last one is under the cursor, and may be empty.
 */
export async function suggest(program: Command, words: readonly string[], ids: AskIds): Promise<Suggestions> {
  const current = words.at(-1) ?? "";
  const typed = readTyped(program, words.slice(0, -1));
  const { values, files } = await candidates(typed, current, ids);
  return { values: values.filter(({ value }) => value.startsWith(current)), files };
}

async function candidates(typed: Typed, current: string, ids: AskIds): Promise<Suggestions> {
  const { command, count, option, afterDashes, url } = typed;
  if (option !== null) return await valuesOf(option, current, url, ids);
  if (current.startsWith("-") && !afterDashes) {
    const [name = "", value] = current.split(/=(.*)/s);
    const named = value === undefined ? undefined : optionOf(command, name);
    if (named === undefined || value === undefined) return none(optionsOf(command).flatMap(spellings));
    const found = await valuesOf(named, value, url, ids);
    return none(found.values.map((each) => ({ ...each, value: `${name}=${each.value}` })));
  }
  const inside = count > 0 ? [] : subcommands(command);
  const named = inside.map((each) => ({ value: each.name(), text: each.summary() || each.description() }));
  const argument = command.registeredArguments[count] ?? lastVariadic(command);
  if (argument === undefined) return none(named);
  // The program of `stitch run`, which comes after `--`.
  if (argument.name() === "command")
    return afterDashes ? FILES : none([{ value: "--", text: "then the program and its arguments" }]);
  const { values, files } = await valuesOf(argument, current, url, ids);
  return { values: [...named, ...values], files };
}

const none = (values: readonly Suggestion[]): Suggestions => ({ values, files: false });

const spellings = ({ long, short, description }: Option): Suggestion[] =>
  [long, short].flatMap((value) => (value == null ? [] : [{ value, text: description }]));

function lastVariadic(command: Command): Argument | undefined {
  const last = command.registeredArguments.at(-1);
  return last?.variadic === true ? last : undefined;
}

/** The values of an option or an argument: its choices, or what its placeholder names, such as `<stitch|group>`. */
async function valuesOf(
  taker: Option | Argument,
  current: string,
  url: string | null,
  ids: AskIds,
): Promise<Suggestions> {
  if (taker.argChoices !== undefined) return none(taker.argChoices.map((value) => ({ value, text: "" })));
  const placeholder = "flags" in taker ? (/[<[](.*?)[\]>]/.exec(taker.flags)?.[1] ?? "") : taker.name();
  if (placeholder === "file" || placeholder === "folder") return FILES;
  const kinds = placeholder.split("|").filter(isKind);
  return none((await Promise.all(kinds.map((kind) => ids(kind, current, url)))).flat());
}
