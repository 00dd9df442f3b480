import { existsSync, readFileSync } from "node:fs";

/** A program that writes a line each time it starts. */
export const counting = (file: string) => ({
  adaptor: "process",
  protocol: "none",
  command: ["sh", "-c", `echo s >> ${file}; exec sleep 600`],
  minHealthyMs: 0,
});
/** How many lines a file has; 0 if it is not there. */
export const linesIn = (file: string): number =>
  existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .filter((line) => line !== "").length
    : 0;
