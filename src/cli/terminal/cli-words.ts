import { COMMAND_NAMES } from "../../domain/commands/command-names.ts";

/** Commands of the API that have another verb on the command line. */
const VERBS: Readonly<Record<string, string>> = { create: "run", remove: "rm", stopOldVersions: "stop-old" };

/** Names of the API's fields, and the flags that set them. */
const FLAGS: Readonly<Record<string, string>> = {
  deadlineMs: "--deadline",
  forceAfterMs: "--force-after",
  maxMoves: "--max-moves",
  minHealthyMs: "--min-healthy",
  planToken: "--plan",
  toNode: "--to",
  timeoutMs: "--timeout",
  "placement.zones": "--zone",
  "placement.labels": "--label",
  "placement.strategy": "--strategy",
  "Idempotency-Key": "--key",
};

const literal = (text: string): string => text.replaceAll(".", "\\.");
/** Matches a name only if it stands alone: in quotes or inside a longer name, the text may be the user's own. */
const anyOf = (names: readonly string[]): RegExp =>
  new RegExp(`(?<!["\\w.:-])(?:${names.map(literal).join("|")})(?!["\\w-]|\\.\\w)`, "g");

const WORDS: readonly (readonly [RegExp, string | ((found: string) => string)])[] = [
  [/GET \/v1\/stitches/g, "stitch ps"],
  [/GET \/v1\/(nodes|groups|dead-letters)/g, "stitch $1"],
  [/send the command with "waitForNode": true/g, "add --wait-for-node"],
  [/Send the API's token as `Authorization: Bearer <token>`\./g, "Set STITCH_TOKEN to the API's token."],
  [anyOf(COMMAND_NAMES), commandHere],
  [anyOf(Object.keys(FLAGS)), (field) => FLAGS[field] ?? field],
];

function commandHere(name: string): string {
  const verb = name.slice(name.indexOf(".") + 1);
  return `stitch ${VERBS[verb] ?? verb}`;
}

/** A message of the API, with its terms for HTTP clients replaced by what the user types on the command line. */
export const inCliWords = (text: string): string =>
  WORDS.reduce(
    (said, [pattern, words]) =>
      typeof words === "string" ? said.replace(pattern, words) : said.replace(pattern, (found) => words(found)),
    text,
  );
