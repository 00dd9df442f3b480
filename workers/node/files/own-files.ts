import { closeSync, constants, fstatSync, lstatSync, openSync, readFileSync, type Stats, statSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { errorCode, errorText } from "../../../src/error-text.ts";
import { answered, STATE_FILES } from "./bounded-files.ts";

// The modes of all files and folders that a worker makes. Each call passes them: a umask would also apply to the stitches.
export const FOLDER_MODE = 0o700;
export const FILE_MODE = 0o600;
/** To open a file for appending and reading. A link in its place is refused: it may lead to a file of somebody else. */
export const APPEND = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;
/** To open a file for reading. A named pipe in its place does not block. */
export const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const OTHERS_MAY_WRITE = 0o002;
const GROUP_MAY_WRITE = 0o020;
/** In a folder with this bit, such as /tmp, nobody may rename or delete files of others. */
const STICKY = 0o1000;

/** Thrown when somebody else has made a file or folder, or may change it: its content could start any program. */
export class NotOwn extends Error {
  override readonly name = "NotOwn";
}

/**
 * Checks that a folder belongs to this user, and that nobody else may write to it. For the folders above it, up to `top`,
 * checks that nobody else can put another folder in its place. @throws NotOwn
 */
export function checkOwnFolder(dir: string, top = dir): void {
  // Windows has neither user ids nor modes.
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

/** Allows root as owner, and writing by the group: a mounted volume often belongs to root and to the worker's group. */
function checkAbove(path: string): void {
  checkLink(path);
  const facts = statSync(path);
  if (facts.uid !== 0) checkOwner(path, facts);
  if ((facts.mode & OTHERS_MAY_WRITE) !== 0 && (facts.mode & STICKY) === 0) throw mayWrite(path, facts);
}

/** If a folder is a link, the owner of the link can make it lead elsewhere. */
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

/** The content of a file; null if there is none. @throws NotOwn if the file is a link, or belongs to another user. */
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

/** Makes a new file and opens it to write. Deletes an existing file or link before. */
export async function makeOwnFile(path: string): Promise<FileHandle> {
  await rm(path, { force: true });
  return open(path, "wx", FILE_MODE);
}

/**
 * Replaces the text of a small file completely or not at all, even if the power fails: a later read gets the old text or the
 * new one. @throws an error that names the path and the next step, at the latest after 5 s.
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

/** After this, files that were made or renamed in a folder survive a power failure. */
export async function syncFolder(path: string): Promise<void> {
  // Windows cannot open a folder; its file systems keep the order of these changes by themselves.
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
 * process holds on it (POSIX record locks, fcntl(2)). @throws NotOwn if it is a link, or belongs to another user.
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
