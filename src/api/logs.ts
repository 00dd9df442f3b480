import { accepts } from "hono/accepts";
import * as z from "zod";
import { stitchRef } from "../domain/names/ids.ts";
import type { PlacedLogLine } from "../master/ports.ts";
import { printableLine } from "../printable.ts";
import { type Api, type ApiContext, type ApiDeps, masterFor } from "./deps.ts";
import { invalidFields } from "./problem.ts";
import { readPath, readQuery, wholeNumber } from "./query.ts";
import { frame, sseStream } from "./sse-stream.ts";
import type { Streams } from "./streams.ts";

export const logsQuery = z.strictObject({ tail: wholeNumber(0, 10_000).default(100) });
/** The id of a line in the stream: its node, and the position after the line in the node's files. */
export const lineId = z.string().regex(/^[a-z0-9-]{1,63}:\d{1,10}\.\d{1,10}$/, "must be the id of a line");

/** The stream waits for a slow reader, so this is all the memory that the reader costs. */
const BACKLOG_BYTES = 64 * 1024;

/** A stitch's log: JSON, bare lines, or a stream that follows it, as the client accepts. */
export function routeLogs(app: Api, { onError }: ApiDeps, streams: Streams): void {
  app.get("/v1/stitches/:stitch/logs", async (c) => {
    const { tail } = readQuery(c, logsQuery);
    const stitch = readPath(c, "stitch", stitchRef);
    c.header("Vary", "Accept");
    switch (formOf(c)) {
      case "text/event-stream": {
        const from = { tail, afterId: lastSeen(c) };
        return streams.answer(c, async (ended) => {
          const { state } = await masterFor(c);
          const source = await state.followLogs(stitch, from, ended.signal);
          const failed = (error: unknown) => onError(error, c.get("requestId"));
          return sseStream(frames(source), { backlogBytes: BACKLOG_BYTES, farewell: null, ended, onError: failed });
        });
      }
      case "text/plain": {
        const { state } = await masterFor(c);
        const { items } = await state.logs(stitch, tail);
        // Made safe to print, because curl mostly shows it on a terminal. As JSON, the lines are what the stitch wrote.
        return c.text(items.map(({ line }) => `${printableLine(line)}\n`).join(""));
      }
      case "application/json": {
        const { state } = await masterFor(c);
        return c.json(await state.logs(stitch, tail));
      }
    }
  });
}

const FORMS = ["application/json", "text/plain", "text/event-stream"] as const;
type Form = (typeof FORMS)[number];

/** JSON, unless the client names another form: `*` and unknown forms get JSON, too. */
const formOf = (c: ApiContext): Form =>
  accepts(c, { header: "Accept", supports: [...FORMS], default: "application/json" }) as Form;

async function* frames(source: AsyncIterable<readonly PlacedLogLine[]>): AsyncGenerator<readonly string[]> {
  for await (const lines of source) yield lines.map(({ id, line }) => frame("line", JSON.stringify(line), id));
}

/** The id that a client sends when it reconnects. */
function lastSeen(c: ApiContext): string | null {
  const header = c.req.header("last-event-id");
  if (header === undefined || header === "") return null;
  const id = lineId.safeParse(header);
  if (id.success) return id.data;
  throw invalidFields(id.error.issues.map(({ message }) => ({ path: "Last-Event-ID", message })));
}
