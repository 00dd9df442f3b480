import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { errorText } from "./error-text.ts";
import { OwnMasterRefused, type WrapMaster } from "./master/own-master.ts";

/**
 * Loads the module of one's own Master (`STITCH_MASTER=<path>`).
 * @param path null: this process runs a Master of its own.
 * @throws OwnMasterRefused if the module cannot be loaded, or exports no function by default.
 */
export async function loadOwnMaster(path: string | null): Promise<WrapMaster | null> {
  if (path === null) return null;
  const loaded: unknown = await import(pathToFileURL(resolve(path)).href).catch((cause: unknown) => {
    throw new OwnMasterRefused(`STITCH_MASTER: ${path} cannot be loaded: ${errorText(cause)}`, { cause });
  });
  const wrap: unknown = typeof loaded === "object" && loaded !== null ? Reflect.get(loaded, "default") : undefined;
  if (typeof wrap !== "function")
    throw new OwnMasterRefused(`STITCH_MASTER: ${path} has no default export that is a function (docs/masters.md)`);
  return wrap as WrapMaster;
}
