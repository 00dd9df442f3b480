import { eventMatches } from "../domain/event.ts";
import { type Api, type ApiContext, type ApiDeps, masterFor } from "./deps.ts";
import { eventId, eventsQuery } from "./event-filter.ts";
import { eventStream } from "./event-stream.ts";
import { invalidFields } from "./problem.ts";
import { readQuery } from "./query.ts";
import type { Streams } from "./streams.ts";

/** A list if the client accepts JSON and no stream; otherwise a stream. */
export function routeEvents(app: Api, { onError }: ApiDeps, streams: Streams): void {
  app.get("/v1/events", async (c) => {
    const query = readQuery(c, eventsQuery);
    const since = lastSeen(c) ?? query.since ?? null;
    if (wantsList(c)) {
      const { state } = await masterFor(c);
      return c.json(await state.events(query.cursor ?? since, query.limit, query));
    }
    if (query.cursor !== undefined)
      throw invalidFields([{ path: "cursor", message: "is of a list: ask with Accept: application/json" }]);
    return streams.answer(c, async (ended) => {
      const backend = await c.get("open")();
      const source = await backend.followEvents(since, ended.signal);
      const failed = (error: unknown) => onError(error, c.get("requestId"));
      return eventStream(source, (event) => eventMatches(event, query), ended, failed);
    });
  });
}

/** The id that a browser sends when it reconnects; newer than the `since` of its first request. */
function lastSeen(c: ApiContext): string | null {
  const header = c.req.header("last-event-id");
  if (header === undefined || header === "") return null;
  const id = eventId.safeParse(header);
  if (id.success) return id.data;
  throw invalidFields(id.error.issues.map(({ message }) => ({ path: "Last-Event-ID", message })));
}

function wantsList(c: ApiContext): boolean {
  const accept = (c.req.header("accept") ?? "").toLowerCase();
  return accept.includes("application/json") && !accept.includes("text/event-stream");
}
