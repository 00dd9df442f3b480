import * as z from "zod";
import { nodeId } from "../domain/names/ids.ts";
import { LIVENESSES } from "../domain/node/node.ts";
import { type Api, masterFor } from "./deps.ts";
import { takesNoBody } from "./no-body.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";

export const nodesQuery = z.strictObject({
  ...pageQuery,
  liveness: z.enum(LIVENESSES).optional(),
  zone: z.string().min(1).max(255).optional(),
});

export function routeNodes(app: Api): void {
  app.get("/v1/nodes", async (c) => {
    const query = readQuery(c, nodesQuery);
    const { state } = await masterFor(c);
    return c.json(await state.nodes(pageOf(query), query));
  });
  app.get("/v1/nodes/:node", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "node", nodeId);
    const { state } = await masterFor(c);
    return c.json(await state.node(id));
  });
  app.post("/v1/nodes/:node/adopt", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "node", nodeId);
    await takesNoBody(c, "adopt");
    const { commands } = await masterFor(c);
    return c.json(await commands.adopt(id));
  });
  app.delete("/v1/nodes/:node", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "node", nodeId);
    const { commands } = await masterFor(c);
    await commands.forgetNode(id);
    return c.body(null, 204);
  });
}
