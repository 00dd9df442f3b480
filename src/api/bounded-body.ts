import type { MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { RequestError } from "../domain/errors.ts";
import type { ApiEnv } from "./deps.ts";

/** Ten times the size of a command with a long list of arguments and variables. */
const BODY_BYTES = 256 * 1024;
/** 1 MiB of data takes several times as much if it is escaped (`\u00e9`). */
const MESSAGE_BYTES = 4 * 1024 * 1024;

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
    onError: () => {
      throw new RequestError("too_large", `A body of this route is at most ${maxSize} bytes.`);
    },
  });
