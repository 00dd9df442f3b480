import * as z from "zod";
import { nodeId, stitchRef } from "../domain/names/ids.ts";
import { MAX_DATA_BYTES, sendRequest } from "../domain/message.ts";
import { scopeOf } from "./access.ts";
import { type Api, masterFor } from "./deps.ts";
import { readKey } from "./idempotency-key.ts";
import { readJson } from "./json-body.ts";
import { invalidRequest } from "./problem.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";
import type { Waits } from "./waits.ts";

export const deadLettersQuery = z.strictObject({
  ...pageQuery,
  node: nodeId.optional(),
  stitch: stitchRef.optional(),
});
/** JSON of the data's size has at most this many tokens: two tokens take three bytes (`[],`). 100 are for the other fields. */
const MAX_TOKENS = Math.ceil((MAX_DATA_BYTES * 2) / 3) + 100;
const letterId = z.string().min(1).max(128);

/** Messages to stitches, and those that could not be delivered. */
export function routeMessages(app: Api, waits: Waits): void {
  app.post("/v1/messages", async (c) => {
    readQuery(c, noQuery);
    const key = readKey(c);
    const request = sendRequest.safeParse(await readJson(c, MAX_TOKENS));
    if (!request.success) throw invalidRequest(request.error);
    const { expect, timeoutMs } = request.data;
    // The wait that the client asked for does not count for the API's deadline.
    if (expect !== "none") c.get("allowMs")(timeoutMs);
    const scope = await scopeOf(c);
    const send = async () => {
      const { routing } = await masterFor(c);
      return routing.send(request.data, key, scope);
    };
    const { sent, replayed } = await waits.during(c, expect === "none" ? 0 : timeoutMs, send);
    if (replayed) c.header("Idempotent-Replayed", "true");
    return c.json(sent, expect === "none" ? 202 : 200);
  });
  app.get("/v1/dead-letters", async (c) => {
    const query = readQuery(c, deadLettersQuery);
    const { routing } = await masterFor(c);
    return c.json(await routing.deadLetters(pageOf(query), query));
  });
  app.post("/v1/dead-letters/:id/redrive", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "id", letterId);
    const { routing } = await masterFor(c);
    return c.json(await routing.redriveDeadLetter(id), 202);
  });
  app.delete("/v1/dead-letters/:id", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "id", letterId);
    const { routing } = await masterFor(c);
    await routing.deleteDeadLetter(id);
    return c.body(null, 204);
  });
}
