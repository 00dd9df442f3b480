import { createInterface } from "node:readline";
import { Interrupted } from "./interrupted.ts";
import type { Output } from "./output.ts";

/**
 * Asks for confirmation before a command that affects many stitches. If the user declines, it says that nothing was done.
 * With `--yes`, or without a terminal for the answer, it does not ask and returns true.
 * @param question makes the question, which says how many stitches are affected; called only if the user is asked.
 * @throws Interrupted if the answer is Ctrl-C, Ctrl-D or Escape; any error of `question`.
 */
export async function confirmed(
  question: () => Promise<string>,
  flags: { readonly yes?: true },
  output: Output,
): Promise<boolean> {
  if (flags.yes === true || process.stdin.isTTY !== true || !output.messagesOnTerminal) return true;
  const answer = await ask(`${await question()} [y/N] `);
  if (answer === null) {
    output.note("");
    throw new Interrupted("Nothing was done.");
  }
  const isYes = /^y(es)?$/i.test(answer.trim());
  if (!isYes) output.note("Nothing was done.");
  return isYes;
}

/** The typed line; null if the user leaves the question without an answer. */
function ask(question: string): Promise<string | null> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const onKey = (_text: string | undefined, { name }: { name?: string }): void => {
    if (name === "escape") resolve(null);
  };
  process.stdin.on("keypress", onKey);
  lines.once("SIGINT", () => resolve(null));
  lines.once("close", () => resolve(null));
  lines.question(question, resolve);
  return promise.finally(() => {
    process.stdin.removeListener("keypress", onKey);
    lines.close();
  });
}
