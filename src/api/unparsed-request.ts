import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";
import { RequestError } from "../domain/errors.ts";
import { problemAnswer } from "./problem.ts";

/** How long a client that still sends may read the answer: if the connection is cut at once, the answer may get lost. */
const LINGER_MS = 1000;

/**
 * Answers requests that never reach the app, because Node's HTTP parser refuses them or stops waiting: with a problem
 * document, as for every other error. If an answer has already begun, it cuts the connection.
 */
export function answerUnparsed(server: Server): void {
  const answers = new WeakMap<Duplex, ServerResponse>();
  server.prependListener("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
    answers.set(socket, response);
  });
  const refused = new WeakSet<Duplex>();
  const refuse = (socket: Duplex, error: RequestError): void => {
    // The parser reports an error for each further piece.
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
  // Node would answer 417 without an explanation. This API does not promise other expectations (RFC 9110, 10.1.1).
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

/** The problem document as the text of a whole HTTP answer, because there is no request to answer. */
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
