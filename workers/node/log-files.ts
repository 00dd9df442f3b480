import { closeSync, fstatSync, lstatSync, openSync, readSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { errorCode } from "../../src/error-text.ts";
import { READ } from "./own-files.ts";

/**
 * The files of a log that were put aside, `<path>.<n>`. Others put files there, too: a person keeps a copy `a.log.20261129`,
 * logrotate names its own `a.log.1`. So each file that this program puts aside ends with a mark that repeats its number,
 * and a file without it, or with another number, counts as not there: it is not read, not deleted and not counted from.
 */

/** As a position in a log holds it (`logPosition`). No leading zero, so that each number has one name. */
const NUMBER = /^[1-9]\d{0,9}$/;
/** Room for the longest mark. */
export const MARK_BYTES = 32;
/** Files of other people beside one log that are looked into, and numbers that are passed over because of them. */
const MOST_FOREIGN = 1000;

/** The last line of the file with this number. For a reader of the log it is no entry. */
export const markOf = (number: number): Buffer => Buffer.from(`${JSON.stringify({ file: number })}\n`);

/** The numbers of the files that this program has put aside, in rising order. */
export async function numbersAside(path: string): Promise<number[]> {
  let names: string[];
  try {
    names = await readdir(dirname(path));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
  return ownNumbers(path, names);
}

/** As `numbersAside`, where the names in the folder are known. */
export function ownNumbers(path: string, names: readonly string[]): number[] {
  const prefix = `${basename(path)}.`;
  return (
    names
      .filter((name) => name.startsWith(prefix) && NUMBER.test(name.slice(prefix.length)))
      .map((name) => Number(name.slice(prefix.length)))
      .sort((a, b) => a - b)
      // Our own are among the lowest: others' are dates, mostly.
      .slice(0, MOST_FOREIGN)
      .filter((number) => isOwn(`${path}.${number}`, number))
  );
}

/** Does the file end with the mark of its number? A folder, a link, and what cannot be read are not ours. */
function isOwn(path: string, number: number): boolean {
  const mark = markOf(number);
  let file: number;
  try {
    file = openSync(path, READ);
  } catch {
    // A link, another user's file, or gone by now: either way not to be counted.
    return false;
  }
  try {
    const facts = fstatSync(file);
    if (!facts.isFile() || facts.size < mark.length) return false;
    const end = Buffer.alloc(mark.length);
    return readSync(file, end, 0, end.length, facts.size - end.length) === end.length && end.equals(mark);
  } catch {
    // A disk that cannot read it: it stays where it is.
    return false;
  } finally {
    closeSync(file);
  }
}

/**
 * The first number from `from` on under which nothing is there: what is another's is not written over.
 * @throws where a thousand names are taken.
 */
export function freeNumber(path: string, from: number): number {
  for (let number = from; number < from + MOST_FOREIGN; number++)
    if (lstatSync(`${path}.${number}`, { throwIfNoEntry: false }) === undefined) return number;
  throw new Error(
    `${path} cannot be put aside: ${path}.${from} and the ${MOST_FOREIGN} numbers after it are taken by files of others; ` +
      "move them to another folder",
  );
}
