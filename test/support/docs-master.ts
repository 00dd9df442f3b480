import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Saves a file that docs/masters.md shows, under the name that its first line says, or another one. @returns its path. */
function saveShown(name: string, folder: string, as = name): string {
  const page = readFileSync(join(import.meta.dirname, "../../docs/masters.md"), "utf8");
  const blocks = [...page.matchAll(/^```js\n([^]*?)^```$/gm)].map(([, source = ""]) => source);
  const source = blocks.find((each) => each.startsWith(`// ${name}:`));
  if (source === undefined) throw new Error(`docs/masters.md shows no ${name}`);
  const path = join(folder, as);
  writeFileSync(path, source);
  return path;
}

/** Saves the Master of one's own that docs/masters.md shows. @returns its path. */
export const saveDocsMaster = (folder: string, as = "my-master.mjs"): string => saveShown("my-master.js", folder, as);

/** Saves the test that holds it to the contract. @returns its path. */
export const saveDocsContractTest = (folder: string): string => saveShown("contract.test.js", folder);
