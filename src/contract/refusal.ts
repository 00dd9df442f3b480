import * as z from "zod";
import { REFUSAL_CODES } from "../domain/placement/refusal.ts";
import type { Resource } from "./resource.ts";

/** Why a node cannot take a stitch. */
export const refusalResource = z.object({ node: z.string(), code: z.enum(REFUSAL_CODES), message: z.string() });
export type RefusalResource = Resource<typeof refusalResource>;
