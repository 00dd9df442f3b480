import * as z from "zod";

/** Cores and bytes: what a node offers, or what is reserved on it. */
export const capacityResource = z.object({ cpu: z.number(), memoryBytes: z.int() });
