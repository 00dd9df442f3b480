import { type ChildProcess, spawn } from "node:child_process";
import { resolve } from "node:path";

const HEAD = "/usr/bin/head";
/** Longer than any line that the kernel takes an interpreter from. */
const LINE_BYTES = 512;
/** A file that does not answer by then is not told of. */
const LIMIT_MS = 1000;
/** Folders of a PATH that are looked through. */
const MOST_FOLDERS = 64;

/** What the beginning of a program's file says of how it is run. */
export type FirstLine =
  | {
      readonly kind: "script";
      /** The words after `#!`. */
      readonly words: readonly string[];
      /** The line ends with CR LF: the kernel takes the CR for a part of the last word. */
      readonly hasCr: boolean;
    }
  /** A compiled program. */
  | { readonly kind: "binary" };

/**
 * Reads the first line of a program's file. A process of its own does that, which is ended where the file does not answer.
 * @returns null where there is nothing to read, or nothing to tell. Never rejects.
 */
export async function readFirstLine(program: string, cwd: string, path: string): Promise<FirstLine | null> {
  const beginning = await beginningOf(filesOf(program, cwd, path));
  if (beginning.startsWith("\x7fELF")) return { kind: "binary" };
  if (!beginning.startsWith("#!")) return null;
  const line = beginning.slice(2).split("\n", 1)[0] ?? "";
  return { kind: "script", words: line.trim().split(/[ \t]+/), hasCr: line.endsWith("\r") };
}

/** Where a program may be, in the order in which it is looked for. */
function filesOf(program: string, cwd: string, path: string): string[] {
  if (program.includes("/")) return [resolve(cwd, program)];
  return path
    .split(":")
    .slice(0, MOST_FOLDERS)
    .map((folder) => resolve(cwd, folder, program));
}

/** The beginning of the first of these files that can be read; nothing where none can be. */
function beginningOf(files: readonly string[]): Promise<string> {
  return new Promise((resolved) => {
    let text = "";
    let child: ChildProcess;
    try {
      child = spawn(HEAD, ["-q", "-c", String(LINE_BYTES), "--", ...files], {
        cwd: "/",
        env: {},
        stdio: ["ignore", "pipe", "ignore"],
      });
    } catch {
      // What it would have told is told nowhere; that the start has failed is told all the same.
      resolved("");
      return;
    }
    const end = () => {
      clearTimeout(timer);
      child.stdout?.destroy();
      resolved(text);
    };
    // One that hangs in the kernel may not be gone at once: it is not waited for.
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      end();
    }, LIMIT_MS);
    child.stdout?.on("data", (bytes: Buffer) => (text += text.length < LINE_BYTES ? bytes.toString("latin1") : ""));
    child.once("error", end);
    child.once("close", end);
  });
}
