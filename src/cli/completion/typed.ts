import type { Command, Option } from "commander";

/** What was typed before the cursor, as the command line understands it. */
export type Typed = {
  /** The innermost command named so far. */
  readonly command: Command;
  /** How many arguments of that command were typed. */
  readonly count: number;
  /** The option whose value comes next. */
  readonly option: Option | null;
  /** After `--`, everything is an argument. */
  readonly afterDashes: boolean;
  /** The value of `--url`. */
  readonly url: string | null;
};

/** Reads the words after `stitch` and before the one under the cursor. Words that are wrong are passed over. */
export function readTyped(program: Command, words: readonly string[]): Typed {
  let command = program;
  let count = 0;
  let option: Option | null = null;
  let afterDashes = false;
  let url: string | null = null;
  for (const word of words) {
    if (option !== null) {
      if (option.long === "--url") url = word;
      option = null;
    } else if (word === "--" && !afterDashes) {
      afterDashes = true;
    } else if (!afterDashes && word.startsWith("-") && word !== "-") {
      const [name = "", value] = word.split(/=(.*)/s);
      const named = optionOf(command, name);
      if (named?.long === "--url" && value !== undefined) url = value;
      if (named?.required === true && value === undefined) option = named;
    } else {
      // It takes the name of a command beside it.
      if (word === "help" && count === 0 && subcommands(command).some((each) => each.name() === word)) continue;
      const named = count === 0 ? subcommands(command).find((each) => each.name() === word) : undefined;
      if (named === undefined) count += 1;
      else command = named;
    }
  }
  return { command, count, option, afterDashes, url };
}

/** Those that `--help` shows, `help` among them. */
export const subcommands = (command: Command): Command[] => command.createHelp().visibleCommands(command);

/** Those that `--help` shows, `--help` among them. */
export const optionsOf = (command: Command): Option[] => command.createHelp().visibleOptions(command);

export const optionOf = (command: Command, name: string): Option | undefined =>
  optionsOf(command).find(({ long, short }) => name === long || name === short);
