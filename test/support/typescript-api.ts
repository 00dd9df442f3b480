// Gives programs that need TypeScript's own API one that has it: the compiler that this repository is checked with has none.
//   node --import test/support/typescript-api.ts PROGRAM
import { registerHooks } from "node:module";
import common from "@ts-morph/common";

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "typescript" ? { url: import.meta.url, shortCircuit: true } : next(specifier, context),
});

export default common.ts;
