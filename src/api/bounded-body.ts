import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { orLate } from "../bounded-wait.ts";
import { RequestError } from "../domain/errors.ts";
import type { ApiEnv } from "./deps.ts";

/** Ten times the size of a command with a long list of arguments and variables. */
const BODY_BYTES = 256 * 1024;
/** 1 MiB of data takes several times as much if it is escaped (`\u00e9`). */
const MESSAGE_BYTES = 4 * 1024 * 1024;

/**
 * How long, and how much of, a body that is too large is read before it is refused. With the rest of a body unread, the server
 * closes the connection soon after its answer, and a client that sends its next request on it just then gets no answer.
 */
const DISCARD_MS = 1000;
const MOST_DISCARDED_BYTES = 16 * 1024 * 1024;

/** Reads a body to its end, or until it is too long for that. */
async function discard(body: ReadableStream<Uint8Array>): Promise<void> {
  const reader = body.getReader();
  for (let bytes = 0; bytes <= MOST_DISCARDED_BYTES; ) {
    const { done, value } = await reader.read();
    if (done) return;
    bytes += value.length;
  }
}

/**
 * Bounds the size of a body and reads it: the time that a client takes to send it does not count for the API's deadline.
 * A body that breaks off is not an error of the API.
 */
export function boundedBody(): MiddlewareHandler<ApiEnv> {
  const others = limit(BODY_BYTES);
  const messages = limit(MESSAGE_BYTES);
  return async (c, next) => {
    const limited = c.req.path === "/v1/messages" ? messages : others;
    try {
      await limited(c, async () => {
        if (c.req.method === "POST") await c.req.arrayBuffer();
      });
    } catch (error) {
      if (error instanceof RequestError) throw error;
      throw new RequestError("invalid_request", "The body broke off: send the request again.", {}, { cause: error });
    }
    await next();
  };
}

const limit = (maxSize: number) =>
  bodyLimit({
    maxSize,
    onError: async (c) => {
      if (c.req.raw.body !== null && !c.req.raw.body.locked) await orLate(discard(c.req.raw.body), DISCARD_MS);
      throw new RequestError("too_large", `A body of this route is at most ${maxSize} bytes.`);
    },
  });
