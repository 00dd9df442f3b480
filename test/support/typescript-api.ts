// Gives programs that need TypeScript's own API a TypeScript that has it: the compiler that checks this repository has none.
//   node --import test/support/typescript-api.ts PROGRAM
import { registerHooks } from "node:module";
import common from "@ts-morph/common";

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "typescript" ? { url: import.meta.url, shortCircuit: true } : next(specifier, context),
});

export default common.ts;
