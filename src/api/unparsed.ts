import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { RequestError } from "../domain/errors.ts";
import { problemAnswer } from "./problem.ts";

/** A client that still sends gets this long to read the answer: a connection that is cut at once may take it along. */
const LINGER_MS = 1000;

/**
 * Answers what never reaches the app, because Node's HTTP parser refuses it or gives up waiting: a problem document as for
 * everything else. Where an answer has begun already, the connection is cut.
 */
export function answerUnparsed(server: Server): void {
  const answers = new WeakMap<Duplex, ServerResponse>();
  server.prependListener("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
    answers.set(socket, response);
  });
  const refused = new WeakSet<Duplex>();
  const refuse = (socket: Duplex, error: RequestError): void => {
    // The parser complains of each further piece.
    if (refused.has(socket)) return;
    refused.add(socket);
    const answer = answers.get(socket);
    const begun = answer !== undefined && answer.headersSent && !answer.writableFinished;
    if (begun || !socket.writable) {
      socket.destroy();
      return;
    }
    socket.end(answerText(error));
    const cut = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.once("close", () => clearTimeout(cut));
  };
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    if (error.code === "ECONNRESET") socket.destroy();
    else refuse(socket, refusal(error.code));
  });
  server.on("connect", (_request, socket) =>
    refuse(socket, new RequestError("method_not_allowed", "This API is no proxy: CONNECT is not taken.")),
  );
  // Node would answer 417 without a word. What a client expects besides is not promised to it (RFC 9110, 10.1.1).
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
}

function refusal(code: string | undefined): RequestError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new RequestError("headers_too_large", "The request line and headers are at most 16 KiB together.");
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new RequestError("too_large", "The extensions of a chunk are at most 16 KiB.");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new RequestError("request_timeout", "The request did not come in whole in time: send it again.");
    default:
      return new RequestError("invalid_request", "This is not HTTP as this API takes it.");
  }
}

/** The problem document as the bytes of an HTTP answer: there is no request to answer. */
function answerText(error: RequestError): string {
  const requestId = crypto.randomUUID();
  const { text, status, headers } = problemAnswer(error, requestId);
  const lines = Object.entries({
    ...headers,
    "X-Request-Id": requestId,
    "Content-Length": Buffer.byteLength(text),
    Connection: "close",
  });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${head}\r\n${text}`;
}
