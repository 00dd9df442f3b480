import * as z from "zod";
import { nodeId } from "../domain/names/ids.ts";
import { LIVENESSES } from "../domain/node/node.ts";
import type { Api, ApiDeps } from "./deps.ts";
import { takesNoBody } from "./no-body.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";

export const nodesQuery = z.strictObject({
  ...pageQuery,
  liveness: z.enum(LIVENESSES).optional(),
  zone: z.string().min(1).max(255).optional(),
});

export function routeNodes(app: Api, { master }: ApiDeps): void {
  app.get("/v1/nodes", async (c) => {
    const query = readQuery(c, nodesQuery);
    return c.json(await master.state.nodes(pageOf(query), query));
  });
  app.get("/v1/nodes/:node", async (c) => {
    readQuery(c, noQuery);
    return c.json(await master.state.node(readPath(c, "node", nodeId)));
  });
  app.post("/v1/nodes/:node/adopt", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "node", nodeId);
    await takesNoBody(c, "adopt");
    return c.json(await master.commands.adopt(id));
  });
  app.delete("/v1/nodes/:node", async (c) => {
    readQuery(c, noQuery);
    await master.commands.forgetNode(readPath(c, "node", nodeId));
    return c.body(null, 204);
  });
}
