import type { Api, ApiDeps } from "./deps.ts";
import { noQuery, readQuery } from "./query.ts";

export function routeCluster(app: Api, { master }: ApiDeps): void {
  app.get("/v1/cluster", async (c) => {
    readQuery(c, noQuery);
    return c.json(await master.state.cluster());
  });
}
