import { InvalidArgumentError } from "commander";

/** Adds `K=V` to the pairs of earlier flags; it replaces an earlier value of the same name. */
export function collectPair(text: string, earlier: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("It is written NAME=VALUE.");
  return { ...earlier, [text.slice(0, at)]: text.slice(at + 1) };
}

/** A flag that may be repeated or given a list: `--zone a --zone b`, `--zone a,b`. */
export function collectList(text: string, earlier: readonly string[] = []): string[] {
  return [...earlier, ...text.split(",").filter((item) => item !== "")];
}

export function parseWholeNumber(text: string): number {
  const number = Number(text);
  if (!/^\d{1,9}$/.test(text) || number < 1) throw new InvalidArgumentError("It is a whole number from 1.");
  return number;
}

/** A whole number that may be 0. */
export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("It is a whole number from 0.");
  return Number(text);
}

/** How many at once: a count, or a percentage of all. */
export function parseBatch(text: string): number | string {
  if (/^([1-9][0-9]?|100)%$/.test(text)) return text;
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError("It is a count, or a part such as 25%.");
  return Number(text);
}

/** How many lines of a log. */
export function parseLineCount(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 10_000)
    throw new InvalidArgumentError("It is a whole number from 0 to 10000.");
  return Number(text);
}

/** How many items of a list. */
export function parseLimit(text: string): number {
  const limit = parseWholeNumber(text);
  if (limit > 1000) throw new InvalidArgumentError("It is 1 to 1000.");
  return limit;
}

/** A plan token, as `stitch plan` prints it. */
export function parsePlanToken(text: string): string {
  if (!/^[0-9a-f]{32}$/.test(text))
    throw new InvalidArgumentError("It is the token that stitch plan prints: 32 of 0-9 and a-f.");
  return text;
}
