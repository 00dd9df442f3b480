import { confirm, isCancel } from "@clack/prompts";
import { Interrupted } from "./interrupted.ts";
import type { Output } from "./output.ts";

/**
 * Asks before something that reaches far, and says so where it is then left alone. Not asked: with `--yes`, and where nobody
 * is there to answer (no terminal).
 * @throws Interrupted where the answer was Ctrl-C.
 */
export async function confirmed(question: string, flags: { readonly yes?: true }, output: Output): Promise<boolean> {
  if (flags.yes === true || process.stdin.isTTY !== true || !output.messagesOnTerminal) return true;
  const answer = await confirm({ message: question, initialValue: false, output: process.stderr });
  if (isCancel(answer)) throw new Interrupted("Nothing was done.");
  if (!answer) output.note("Nothing was done.");
  return answer;
}
