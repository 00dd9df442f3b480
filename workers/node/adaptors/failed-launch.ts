import { type FirstLine, readFirstLine } from "./first-line.ts";
import type { Refusal } from "./launcher.ts";

/** The program that was to be started, and where. */
export type Wanted = {
  readonly node: string;
  readonly program: string;
  readonly cwd: string;
  /** The PATH in the program's environment. */
  readonly path: string;
};

const NO_SUCH_FILE = "No such file or directory";
const NO_PERMISSION = "Permission denied";
const NOT_FOUND = 127;

/** Says in words why a launch did not become its program. Bounded in time; never rejects. */
export async function refusalText(refusal: Refusal, wanted: Wanted): Promise<string> {
  const { node, program, cwd, path } = wanted;
  const { what, reason } = refusal;
  if (what === "no folder")
    return reason === NO_SUCH_FILE
      ? `the working folder ${cwd} does not exist on ${node}`
      : `the working folder ${cwd} cannot be entered on ${node}: ${reason}`;
  const first = await readFirstLine(program, cwd, path);
  const script = first?.kind === "script" ? first : null;
  if (what === "not executable") {
    const which = script === null ? `"${program}"` : `"${program}" or its interpreter "${script.words[0]}"`;
    return `${which} may not be executed${reason === NO_PERMISSION ? "" : `: ${reason}`}`;
  }
  if (script !== null) return `"${program}" could not be started: ${interpreterText(script, script.words[0] ?? "")}`;
  if (first?.kind === "binary")
    return `"${program}" could not be started: it is there, but the loader that it names is not; it was built for another system`;
  return program.includes("/")
    ? `there is no program "${program}" on ${node}`
    : `there is no program "${program}" on this node's PATH`;
}

/**
 * Says why a program has ended at once, if its first line leaves it to `env` to find the interpreter; null if that explains
 * nothing. Bounded in time; never rejects.
 */
export async function earlyExitText(code: number | null, { program, cwd, path }: Wanted): Promise<string | null> {
  if (code !== NOT_FOUND) return null;
  const first = await readFirstLine(program, cwd, path);
  if (first?.kind !== "script" || !/(^|\/)env$/.test(first.words[0] ?? "")) return null;
  const interpreter = first.words.slice(1).find((word) => !word.startsWith("-") && !word.includes("="));
  return interpreter === undefined ? null : interpreterText(first, interpreter);
}

const interpreterText = ({ hasCr }: Extract<FirstLine, { kind: "script" }>, interpreter: string): string =>
  hasCr
    ? `its first line ends with CR LF, so the CR counts as part of the name of its interpreter "${interpreter}"; ` +
      "save it with LF line ends"
    : `its first line names the interpreter "${interpreter}", which is not on this node`;
