import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, type Stats, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { errorCode, errorText } from "../../../src/error-text.ts";
import { answered, STATE_FILES } from "./bounded-files.ts";

// The modes of all that a worker makes. Each call gives them: the umask of the process would be its stitches' too.
export const FOLDER_MODE = 0o700;
export const FILE_MODE = 0o600;
/** To open a file that is appended to and read: a link in its place is refused, where it leads is another's. */
export const APPEND = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
/** A named pipe in its place holds up nobody. */
export const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const OTHERS_MAY_WRITE = 0o002;
const GROUP_MAY_WRITE = 0o020;
/** In such a folder, /tmp for one, nobody may rename or delete what is another's. */
const STICKY = 0o1000;

/** Thrown where somebody else has made a file or folder, or may change it: what is in it could start any program. */
export class NotOwn extends Error {
  override readonly name = "NotOwn";
}

/**
 * Checks that a folder is this user's, and that nobody else may write to it; and of those above it, up to `top`, that nobody
 * else can put another folder in its place. @throws NotOwn
 */
export function checkOwnFolder(dir: string, top = dir): void {
  // Windows has neither users' numbers nor modes.
  if (process.getuid === undefined) return;
  for (let path = resolve(dir); path !== resolve(top); ) {
    path = dirname(path);
    checkAbove(path);
  }
  checkLink(dir);
  const facts = statSync(dir);
  checkOwner(dir, facts);
  if ((facts.mode & (OTHERS_MAY_WRITE | GROUP_MAY_WRITE)) !== 0) throw mayWrite(dir, facts);
}

/** A volume that is mounted there is often root's, and its group the worker's. */
function checkAbove(path: string): void {
  checkLink(path);
  const facts = statSync(path);
  if (facts.uid !== 0) checkOwner(path, facts);
  if ((facts.mode & OTHERS_MAY_WRITE) !== 0 && (facts.mode & STICKY) === 0) throw mayWrite(path, facts);
}

/** Where a folder is a link, whoever has made that can make it lead elsewhere. */
function checkLink(path: string): void {
  const facts = lstatSync(path);
  if (facts.isSymbolicLink() && facts.uid !== 0) checkOwner(path, facts);
}

function checkOwner(path: string, { uid }: Stats): void {
  const own = process.getuid?.() ?? uid;
  if (uid !== own) throw new NotOwn(`${path} belongs to user ${uid}, and this worker runs as user ${own}`);
}

const mayWrite = (path: string, { mode }: Stats): NotOwn =>
  new NotOwn(`others may write to ${path}, its mode is ${(mode & 0o7777).toString(8)}`);

/** What is in a file; null where there is none. @throws NotOwn where it is a link, or another user's. */
export function readOwnFile(path: string): Buffer | null {
  let file: number;
  try {
    file = openSync(path, READ);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === "ENOENT") return null;
    if (code === "ELOOP") throw isLink(path);
    throw cause;
  }
  try {
    checkOwner(path, fstatSync(file));
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** Makes a file anew, and opens it to write; what was there goes, and a link with it. */
export async function makeOwnFile(path: string): Promise<FileHandle> {
  await rm(path, { force: true });
  return open(path, "wx", FILE_MODE);
}

/**
 * Writes a small file anew, all of it or nothing, also where the power goes: what is read later is the former text or this
 * one. @throws naming the path and the next step, at the latest after 5 s.
 */
export async function replaceOwnFile(path: string, text: string): Promise<void> {
  const replace = async () => {
    const file = await makeOwnFile(`${path}.new`);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
    await syncFolder(dirname(path));
  };
  try {
    await answered(path, STATE_FILES.run(replace));
  } catch (cause) {
    const reason = errorText(cause);
    throw new Error(`${path} cannot be written (${reason}); see to its disk, or set another STITCH_STATE_DIR`, {
      cause,
    });
  }
}

/** After this, what was made or renamed in a folder is there also where the power goes. */
export async function syncFolder(path: string): Promise<void> {
  // Windows opens no folder; its file systems keep the order of such changes by themselves.
  if (process.platform === "win32") return;
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Creates an empty file, unless the file exists. An existing file is not opened: closing it would release the locks that this
 * process holds on it (POSIX record locks, fcntl(2)). @throws NotOwn where it is a link, or another user's.
 */
export function keepOwnFile(path: string): void {
  try {
    closeSync(openSync(path, "wx", FILE_MODE));
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    const facts = lstatSync(path);
    if (facts.isSymbolicLink()) throw isLink(path);
    checkOwner(path, facts);
  }
}

const isLink = (path: string): NotOwn => new NotOwn(`${path} is a link to another file`);
