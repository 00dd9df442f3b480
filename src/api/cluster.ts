import * as z from "zod";
import { nodeId } from "../domain/names/ids.ts";
import { LEASE_IN_REDIS, leasePlace, MASTER_MODES } from "../domain/master-mode.ts";
import { type Api, masterFor } from "./deps.ts";
import { readJson } from "./json-body.ts";
import { invalidRequest } from "./problem.ts";
import { noQuery, readQuery } from "./query.ts";

/** For the body: the mode, and room for unknown fields that are then refused by name. */
const MAX_TOKENS = 100;

export const masterModeBody = z
  .strictObject({ mode: z.enum(MASTER_MODES), preferred: nodeId.optional(), lease: leasePlace.optional() })
  .refine(({ mode, preferred }) => (mode === "preferred") === (preferred !== undefined), {
    error: "preferred is needed with the mode preferred, and only there: the id of a Master",
    path: ["preferred"],
  })
  .refine(({ mode, lease }) => mode === "leader" || lease === undefined, {
    error: "goes with the mode leader, and only there",
    path: ["lease"],
  });

export function routeCluster(app: Api): void {
  app.get("/v1/cluster", async (c) => {
    readQuery(c, noQuery);
    const { state } = await masterFor(c);
    return c.json(await state.cluster());
  });
  app.post("/v1/masters/mode", async (c) => {
    readQuery(c, noQuery);
    const body = masterModeBody.safeParse(await readJson(c, MAX_TOKENS));
    if (!body.success) throw invalidRequest(body.error);
    const { mode, preferred = null, lease = mode === "leader" ? LEASE_IN_REDIS : null } = body.data;
    const { commands } = await masterFor(c);
    return c.json(await commands.changeMode({ mode, preferred, lease }));
  });
}
