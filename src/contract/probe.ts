import * as z from "zod";

/** `GET /livez` and `GET /readyz`. */
export const probeResource = z.object({ status: z.enum(["alive", "ready"]) });
