import { createHash } from "node:crypto";
import { type StitchSpec, type StoredSpec, stitchSpec } from "../../src/domain/stitch/spec.ts";

/** Every spec that this test has named, by its hash. */
const SPECS = new Map<string, StitchSpec>();

export const hashOf = (text: string): string => createHash("sha256").update(text).digest("hex");

/** A spec as it goes to the store. */
export function stored(spec: StitchSpec): StoredSpec {
  const text = JSON.stringify(spec);
  const specHash = hashOf(text);
  SPECS.set(specHash, spec);
  return { specHash, spec, text };
}

/** The spec that something names by its hash. */
export function specOf({ specHash }: { readonly specHash: string }): StitchSpec {
  const spec = SPECS.get(specHash);
  if (spec === undefined) throw new Error(`this test has named no spec ${specHash}`);
  return spec;
}

/** The specs that a node may run: all that this test has named. */
export const NAMED_SPECS = { find: (hash: string): StitchSpec | null => SPECS.get(hash) ?? null };

/** A program that ends at once and speaks no protocol. */
export const ENDS = stitchSpec.parse({ adaptor: "process", command: ["true"], protocol: "none" });
