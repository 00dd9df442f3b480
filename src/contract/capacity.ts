import * as z from "zod";

/** Cores and bytes: what a node offers, what is reserved of it. */
export const capacityResource = z.object({ cpu: z.number(), memoryBytes: z.int() });
