import type { Api, ApiDeps } from "./deps.ts";
import openapi from "./openapi.json" with { type: "json" };

export function routeHealth(app: Api, { metrics }: ApiDeps): void {
  app.get("/livez", (c) => c.json({ status: "alive" }));
  app.get("/readyz", async (c) => {
    const backend = await c.get("open")();
    await backend.ping();
    return c.json({ status: "ready" });
  });
  app.get("/openapi.json", (c) => c.json(openapi));
  if (metrics !== undefined) {
    app.get("/metrics", async (c) => {
      const { contentType, text } = await metrics.render();
      return c.body(text, 200, { "Content-Type": contentType });
    });
  }
}
