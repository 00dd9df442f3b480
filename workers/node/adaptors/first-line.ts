import { type ChildProcess, spawn } from "node:child_process";
import { resolve } from "node:path";

const HEAD = "/usr/bin/head";
/** Longer than any line from which the kernel takes an interpreter. */
const LINE_BYTES = 512;
/** If a file does not answer within this time, nothing is said about it. */
const LIMIT_MS = 1000;
/** Folders of a PATH that are searched. */
const MOST_FOLDERS = 64;

/** How a program is run, by the beginning of its file. */
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
 * Reads the first line of a program's file, in a separate process that is killed if the file does not answer.
 * @returns null if there is nothing to read, or if the file is neither a script nor a binary. Never rejects.
 */
export async function readFirstLine(program: string, cwd: string, path: string): Promise<FirstLine | null> {
  const beginning = await beginningOf(filesOf(program, cwd, path));
  if (beginning.startsWith("\x7fELF")) return { kind: "binary" };
  if (!beginning.startsWith("#!")) return null;
  const line = beginning.slice(2).split("\n", 1)[0] ?? "";
  return { kind: "script", words: line.trim().split(/[ \t]+/), hasCr: line.endsWith("\r") };
}

/** The files that a program's name may mean, in search order. */
function filesOf(program: string, cwd: string, path: string): string[] {
  if (program.includes("/")) return [resolve(cwd, program)];
  return path
    .split(":")
    .slice(0, MOST_FOLDERS)
    .map((folder) => resolve(cwd, folder, program));
}

/** The beginning of the first file that can be read; empty if none can be read. */
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
      // The first line is then unknown; the failed start is reported in any case.
      resolved("");
      return;
    }
    const end = () => {
      clearTimeout(timer);
      child.stdout?.destroy();
      resolved(text);
    };
    // A process that hangs in the kernel may not end at once, so nobody waits for it.
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      end();
    }, LIMIT_MS);
    child.stdout?.on("data", (bytes: Buffer) => (text += text.length < LINE_BYTES ? bytes.toString("latin1") : ""));
    child.once("error", end);
    child.once("close", end);
  });
}
