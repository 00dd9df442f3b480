import { basename, dirname } from "node:path";
import { type BoundedFile, LOG_FILES, orNull } from "../files/bounded-files.ts";
import { READ } from "../files/own-files.ts";

/**
 * The files of a log that were put aside, `<path>.<n>`. People and other programs put files there, too: a person keeps a copy
 * `a.log.20261129`, logrotate names its files `a.log.1`. So each file that this program puts aside ends with a mark that
 * repeats its number. A file without the mark, or with another number in it, is ignored: it is not read, not deleted, and
 * numbering does not continue from it.
 */

/** A file's number, as a position in a log holds it (`logPosition`). No leading zero, so that each number has one name. */
const NUMBER = /^[1-9]\d{0,9}$/;
/** Room for the longest mark. */
export const MARK_BYTES = 32;
/** How many files of others beside one log are checked, and how many numbers are skipped because of them, at most. */
const MOST_FOREIGN = 1000;

/** The last line of the file with this number. A reader of the log does not count it as an entry. */
export const markOf = (number: number): Buffer => Buffer.from(`${JSON.stringify({ file: number })}\n`);

/** The numbers of the files that this program has put aside, in rising order. */
export async function numbersAside(path: string): Promise<number[]> {
  const prefix = `${basename(path)}.`;
  const numbers = (await LOG_FILES.names(dirname(path)))
    .filter((name) => name.startsWith(prefix) && NUMBER.test(name.slice(prefix.length)))
    .map((name) => Number(name.slice(prefix.length)))
    .sort((a, b) => a - b)
    // Our own numbers are among the lowest: the numbers of others are mostly dates.
    .slice(0, MOST_FOREIGN);
  const own: number[] = [];
  for (const number of numbers) if (await isOwn(`${path}.${number}`, number)) own.push(number);
  return own;
}

/** Does the file end with the mark of its number? A folder, a link or an unreadable file is not ours. */
async function isOwn(path: string, number: number): Promise<boolean> {
  const mark = markOf(number);
  let file: BoundedFile;
  try {
    file = await LOG_FILES.open(path, READ);
  } catch {
    // A link, another user's file, or gone by now: in each case it does not count.
    return false;
  }
  try {
    const facts = await file.stat();
    if (!facts.isFile() || facts.size < mark.length) return false;
    const end = Buffer.alloc(mark.length);
    return (await file.readInto(end, 0, facts.size - end.length)) === end.length && end.equals(mark);
  } catch {
    // The disk cannot read the file: it stays where it is.
    return false;
  } finally {
    await file.close();
  }
}

/**
 * The first number from `from` on with which no file exists: a file of others must not be overwritten.
 * @throws if a thousand names are taken.
 */
export async function freeNumber(path: string, from: number): Promise<number> {
  for (let number = from; number < from + MOST_FOREIGN; number++)
    if ((await orNull(LOG_FILES.lstat(`${path}.${number}`))) === null) return number;
  throw new Error(
    `${path} cannot be put aside: ${path}.${from} and the ${MOST_FOREIGN} numbers after it are taken by files of others; ` +
      "move them to another folder",
  );
}
