import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Saves the module that docs/masters.md shows into a folder. @returns its path. */
export function saveDocsMaster(folder: string): string {
  const page = readFileSync(join(import.meta.dirname, "../../docs/masters.md"), "utf8");
  const [, source] = /^```js\n(\/\/ my-master\.js[^]*?)^```$/m.exec(page) ?? [];
  if (source === undefined) throw new Error("docs/masters.md shows no my-master.js");
  const path = join(folder, "my-master.mjs");
  writeFileSync(path, source);
  return path;
}
