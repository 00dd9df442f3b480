import { type ErrorCode, RequestError } from "../domain/errors.ts";
import type { Master } from "./ports.ts";

/** What a Master is made of: its ports. */
export type MasterParts = Omit<Master, "id">;

/** What the module of one's own Master is given beside the default Master. */
export type OwnMasterContext = {
  /** The id of this Master, and the name of its cluster. */
  readonly id: string;
  readonly cluster: string;
  /** Unix milliseconds. */
  readonly nowMs: () => number;
  /** Makes the error that refuses a request; throw it. `code` is one of the codes in docs/http.md. */
  readonly refusal: (code: ErrorCode, detail: string) => RequestError;
};

/** The default export of a module for `STITCH_MASTER=<path>`: wraps the default Master, and replaces what it wants. */
export type WrapMaster = (base: MasterParts, context: OwnMasterContext) => MasterParts;

/** Thrown if the module of one's own Master does not give all the ports. */
export class OwnMasterRefused extends Error {
  override readonly name = "OwnMasterRefused";
}

/**
 * Makes one's own Master on top of the default one.
 * @throws OwnMasterRefused if the module fails, returns a promise, or leaves out a function: naming the first one.
 */
export function wrapMaster(base: Master, wrap: WrapMaster, cluster: string, nowMs: () => number): Master {
  const { id, ...parts } = base;
  const made = partsOf(() =>
    wrap(parts, { id, cluster, nowMs, refusal: (code, detail) => new RequestError(code, detail) }),
  );
  for (const [name, functions] of Object.entries(parts)) {
    const part: unknown = fieldOf(made, name);
    for (const each of Object.keys(functions))
      if (typeof fieldOf(part, each) !== "function")
        throw new OwnMasterRefused(`STITCH_MASTER: the module's Master has no function ${name}.${each}`);
  }
  const { state, routing, commands, upkeep } = made;
  return { id, state, routing, commands, upkeep };
}

function partsOf(make: () => MasterParts): MasterParts {
  let made: MasterParts | Promise<unknown>;
  try {
    made = make();
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new OwnMasterRefused(`STITCH_MASTER: the module's function fails: ${text}`, { cause });
  }
  if (made instanceof Promise)
    throw new OwnMasterRefused("STITCH_MASTER: the module's function returns a promise; it must return the ports");
  return made;
}

const fieldOf = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
