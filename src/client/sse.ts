/** One server-sent event. `id` is null if the event had none. */
export type ServerSentEvent = { readonly id: string | null; readonly event: string; readonly data: string };

/** An event longer than this is not from this API; without a bound, a broken server could fill the memory. */
const MAX_EVENT_CHARS = 4 * 1024 * 1024;

/**
 * The events of a `text/event-stream` body, in order, until it ends (WHATWG HTML, 9.2.6). An event cut off by the end is
 * dropped, as the standard says. `onBytes` is called whenever anything arrives, comments included: a sign of life.
 */
export async function* serverSentEvents(
  body: ReadableStream<Uint8Array>,
  onBytes: () => void,
): AsyncGenerator<ServerSentEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let fields = emptyFields();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      if (rest.length + fields.size > MAX_EVENT_CHARS)
        throw new Error("a server-sent event is larger than 4 Mi characters");
      for (const line of lines) {
        if (line !== "") {
          takeLine(fields, line);
        } else {
          if (fields.data.length > 0) yield { id: fields.id, event: fields.event, data: fields.data.join("\n") };
          fields = emptyFields();
        }
      }
    }
  } finally {
    // Also reached when the caller stops early: without this the connection would stay open.
    // An error does not matter: a stream that broke already has nothing left to cancel.
    await reader.cancel().catch(() => undefined);
  }
}

type Fields = { id: string | null; event: string; data: string[]; size: number };
const emptyFields = (): Fields => ({ id: null, event: "message", data: [], size: 0 });

function takeLine(fields: Fields, line: string): void {
  fields.size += line.length;
  const colon = line.indexOf(":");
  const name = colon === -1 ? line : line.slice(0, colon);
  const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "id") fields.id = value;
  else if (name === "event") fields.event = value;
  else if (name === "data") fields.data.push(value);
}
