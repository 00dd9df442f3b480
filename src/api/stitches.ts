import * as z from "zod";
import { groupName } from "../domain/names/group.ts";
import { nodeId, stitchRef } from "../domain/names/ids.ts";
import { HEALTHS, STITCH_STATES } from "../domain/stitch/stitch.ts";
import { type Api, masterFor } from "./deps.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";

export const stitchesQuery = z.strictObject({
  ...pageQuery,
  group: groupName.optional(),
  node: nodeId.optional(),
  state: z.enum(STITCH_STATES).optional(),
  health: z.enum(HEALTHS).optional(),
});

export function routeStitches(app: Api): void {
  app.get("/v1/stitches", async (c) => {
    const query = readQuery(c, stitchesQuery);
    const { state } = await masterFor(c);
    return c.json(await state.stitches(pageOf(query), query));
  });
  app.get("/v1/stitches/:stitch", async (c) => {
    readQuery(c, noQuery);
    const ref = readPath(c, "stitch", stitchRef);
    const { state } = await masterFor(c);
    return c.json(await state.stitch(ref));
  });
}
