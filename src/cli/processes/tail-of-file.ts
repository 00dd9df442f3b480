import { open } from "node:fs/promises";
import { errorCode } from "../../error-text.ts";

const READ_BYTES = 16 * 1024;

/** The last lines of a text file, at most 16 KiB of it; empty if the file does not exist. */
export async function tailOfFile(path: string, lines: number): Promise<string> {
  try {
    await using file = await open(path, "r");
    const { size } = await file.stat();
    const start = Math.max(0, size - READ_BYTES);
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(READ_BYTES), position: start });
    return buffer.subarray(0, bytesRead).toString("utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return "";
    throw error;
  }
}
