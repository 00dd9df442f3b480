/** What makes a node unfit for a stitch, in the order in which a person would check it. */
export const REFUSAL_CODES = [
  "not_alive",
  "cordoned",
  "draining",
  "zone",
  "label",
  "max_per_node",
  "cpu",
  "memory",
  "module_missing",
] as const;
export type RefusalCode = (typeof REFUSAL_CODES)[number];

/** Why a node cannot take a stitch. */
export type Refusal = { readonly node: string; readonly code: RefusalCode; readonly message: string };
