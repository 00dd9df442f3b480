import { findPackageJSON } from "node:module";
import { dirname } from "node:path";

/** The folder of this package, whether its sources run or what is built of them. */
export const packageFolder = (): string => dirname(findPackageJSON(import.meta.url) ?? import.meta.dirname);
