import { readFileSync } from "node:fs";
import { DockerfileParser, Env, From, type Instruction, ModifiableInstruction } from "dockerfile-ast";

/** An instruction of a Dockerfile, with its flags apart, its continued lines joined and its comments taken out. */
export type Instructed = {
  readonly keyword: string;
  readonly flags: Readonly<Record<string, string>>;
  readonly text: string;
  /** Of ENV. */
  readonly variables: Readonly<Record<string, string>>;
};

export type Stage = {
  readonly name: string | null;
  /** What FROM names: an image, or an earlier stage. */
  readonly base: string;
  readonly instructions: readonly Instructed[];
};

/** Those that `buildImage` carries out, with the flags that it knows. */
const KNOWN: Readonly<Record<string, readonly string[]>> = {
  WORKDIR: [],
  COPY: ["from", "chown"],
  RUN: ["mount"],
  ENV: [],
  USER: [],
  EXPOSE: [],
  HEALTHCHECK: ["interval", "timeout", "start-period", "retries"],
  ENTRYPOINT: [],
  CMD: [],
};

/** @throws on an instruction or a flag that `buildImage` would not carry out. */
export function readDockerfile(path: string): Stage[] {
  const stages: { name: string | null; base: string; instructions: Instructed[] }[] = [];
  for (const instruction of DockerfileParser.parse(readFileSync(path, "utf8")).getInstructions()) {
    if (instruction instanceof From) {
      if (instruction.getFlags().length > 0) throw new Error(`not implemented: ${instruction.toString()}`);
      stages.push({ name: instruction.getBuildStage(), base: instruction.getImage() ?? "", instructions: [] });
      continue;
    }
    const stage = stages.at(-1);
    if (stage === undefined) throw new Error(`not implemented: ${instruction.getKeyword()} before the first FROM`);
    stage.instructions.push(instructedBy(instruction));
  }
  return stages;
}

function instructedBy(instruction: Instruction): Instructed {
  const keyword = instruction.getKeyword();
  const known = KNOWN[keyword];
  if (known === undefined) throw new Error(`not implemented: ${keyword}`);
  const flags: Record<string, string> = {};
  for (const flag of instruction instanceof ModifiableInstruction ? instruction.getFlags() : []) {
    const name = flag.getName();
    if (!known.includes(name) || name in flags) throw new Error(`not implemented: ${keyword} ${flag.toString()}`);
    flags[name] = flag.getValue() ?? "";
  }
  const variables: Record<string, string> = {};
  for (const property of instruction instanceof Env ? instruction.getProperties() : [])
    variables[property.getName()] = property.getValue() ?? "";
  return { keyword, flags, text: joined(instruction.getRawArgumentsContent() ?? ""), variables };
}

/** One line: comments between continued lines are dropped, as Docker does. */
const joined = (text: string): string =>
  text
    .split("\n")
    .filter((line) => !/^\s*#/.test(line))
    .join("\n")
    .replace(/\\\n/g, "");

/** The arguments of the exec form, `["a", "b"]`. @throws if it is another form. */
export function execForm(text: string): string[] {
  const parsed: unknown = JSON.parse(text);
  if (!Array.isArray(parsed) || !parsed.every((item) => typeof item === "string"))
    throw new Error(`not a list of strings: ${text}`);
  return parsed;
}

/** Paths are relative to the context. */
export type Ignored = {
  /** Does a build get the file? The last pattern that matches decides. */
  readonly isSent: (file: string) => boolean;
  /** May a file in the folder be one that it gets? */
  readonly mayHold: (folder: string) => boolean;
};

/** Reads the text of a .dockerignore. @throws on a pattern that is not implemented here. */
export function readDockerignore(text: string): Ignored {
  const patterns = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => ({ sends: line.startsWith("!"), glob: line.replace(/^!/, "") }));
  const rules = patterns.map(({ sends, glob }) => ({ sends, glob, expression: expressionOf(glob) }));
  const isSent = (file: string): boolean => {
    // A pattern that matches a folder matches all that is in it.
    const folders = file.split("/").map((_, index, names) => names.slice(0, index + 1).join("/"));
    return rules.findLast(({ expression }) => folders.some((folder) => expression.test(folder)))?.sends ?? true;
  };
  const mayHold = (folder: string): boolean =>
    isSent(folder) || rules.some(({ sends, glob }) => sends && glob.startsWith(`${folder}/`));
  return { isSent, mayHold };
}

/** Knows `*` within a name, and `**` followed by a slash at the beginning. */
function expressionOf(glob: string): RegExp {
  const rest = glob.replace(/^\*\*\//, "");
  if (!/^[\w.*-]+(\/[\w.*-]+)*$/.test(rest) || rest.includes("**")) throw new Error(`not implemented: pattern ${glob}`);
  const names = rest.replaceAll(".", "\\.").replaceAll("*", "[^/]*");
  return new RegExp(`^${rest === glob ? "" : "(.*/)?"}${names}$`);
}
