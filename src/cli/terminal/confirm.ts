import { createInterface } from "node:readline";
import { Interrupted } from "./interrupted.ts";
import type { Output } from "./output.ts";

/**
 * Asks whether to go on with what concerns many stitches. Where the answer is no, it says that nothing was changed. It does
 * not ask with `--yes`, nor where there is no terminal to answer on.
 * @param question is made only where it is asked; it says how many are meant.
 * @throws Interrupted where the answer was Ctrl-C, Ctrl-D or Escape; whatever `question` throws.
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

/** The line that was typed; null where the question was left without one. */
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
