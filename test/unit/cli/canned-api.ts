import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import type { StitchResource } from "../../../src/contract/stitch.ts";
import type { JobResource } from "../../../src/contract/job.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";

export type Asked = {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
};

type Answer = (asked: Asked, response: ServerResponse) => void | Promise<void>;

/** A real HTTP server that answers as the test tells it, and records the requests. */
export class CannedApi implements AsyncDisposable {
  readonly asked: Asked[] = [];
  readonly #server = createServer();
  #url = "";
  #answer: Answer;

  private constructor(answer: Answer) {
    this.#answer = answer;
    this.#server.on("request", (request, response) => {
      this.#take(request, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  /** @param port default: any that is free. */
  static async start(answer: Answer, port = 0): Promise<CannedApi> {
    const api = new CannedApi(answer);
    api.#server.listen(port, "127.0.0.1");
    await once(api.#server, "listening");
    api.#url = `http://127.0.0.1:${(api.#server.address() as AddressInfo).port}`;
    return api;
  }

  /** Still known after the API has ended. */
  get url(): string {
    return this.#url;
  }

  answerWith(answer: Answer): void {
    this.#answer = answer;
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = request;
    const asked = {
      method,
      url,
      headers,
      body: method === "POST" && headers["content-type"] ? await json(request) : null,
    };
    this.asked.push(asked);
    await this.#answer(asked, response);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

/** The page of a proxy that has no API to ask. */
export function sendPage(response: ServerResponse, status: number): void {
  response.writeHead(status, { "content-type": "text/html" }).end("<html>Bad Gateway</html>");
}

export function sendJson(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  const type = status >= 400 ? "application/problem+json" : "application/json";
  response.writeHead(status, { "content-type": type, ...headers }).end(JSON.stringify(body));
}

export function problem(status: number, code: string, facts: Record<string, unknown> = {}): Record<string, unknown> {
  const retryable = status === 503;
  return {
    type: `urn:crossstitch:error:${code}`,
    title: code,
    status,
    detail: `about ${code}`,
    code,
    requestId: "r",
    retryable,
    ...facts,
  };
}

const NO_COUNTS = {
  total: 1,
  pending: 0,
  running: 0,
  succeeded: 0,
  failed: 0,
  superseded: 0,
  cancelled: 0,
  expired: 0,
  unknown: 0,
};

/** A job of one step on n1, in the given state. */
export function job(
  status: "pending" | "running" | "succeeded" | "failed" | "cancelled",
  over: Partial<JobResource> = {},
): JobResource {
  const ended = status !== "pending" && status !== "running";
  const failed = status === "failed";
  return {
    id: "jaaaaaaaaaaaaaaaaaaaaaaaaaa",
    command: "stitch.start",
    target: "n1:orders-1",
    options: {},
    reason: null,
    by: null,
    master: "api-1",
    status,
    revision: "7",
    createdAt: "2026-11-23T09:00:00.000Z",
    deadlineAt: "2026-11-23T09:01:00.000Z",
    finishedAt: ended ? "2026-11-23T09:00:00.250Z" : null,
    counts: { ...NO_COUNTS, [status]: 1 },
    progress: { wave: 1, waves: 1, message: "" },
    stitches: ["n1:orders-1"],
    tasks: [
      {
        id: "t1",
        node: "n1",
        status,
        attempt: 1,
        steps: [
          {
            action: "start",
            stitch: "n1:orders-1",
            status,
            changed: ended ? !failed : null,
            startedAt: null,
            finishedAt: null,
            output: null,
            error: failed
              ? { code: "exited_early", message: "it exited with 3", stderrTail: "line one\nboom \u001b[31mred" }
              : null,
          },
        ],
      },
    ],
    error: null,
    retryOf: null,
    retriedBy: null,
    rollbackOf: null,
    rolledBackBy: null,
    causedBy: null,
    ...over,
  };
}

/** The tasks of a job that created these stitches, by full id. */
export const creating = (...stitches: string[]): JobResource["tasks"] =>
  job("succeeded").tasks.flatMap((task) => ({
    ...task,
    steps: stitches.flatMap((stitch) => task.steps.map((step) => ({ ...step, action: "create" as const, stitch }))),
  }));

/** A stitch that runs on n1. */
export function stitch(over: Partial<StitchResource> = {}): StitchResource {
  return {
    id: "orders-1",
    fullId: "n1:orders-1",
    node: "n1",
    group: "shop.orders.1",
    desired: "running",
    state: "running",
    health: "green",
    healthySince: "2026-11-23T09:00:00.000Z",
    revision: "7",
    restarts: 0,
    pid: 4711,
    startedAt: "2026-11-23T09:00:00.000Z",
    lastExit: null,
    resources: null,
    finished: false,
    specHash: "a".repeat(64),
    spec: stitchSpec.parse({ adaptor: "process", command: ["sleep", "60"] }),
    observedAt: "2026-11-23T09:00:00.000Z",
    ...over,
  };
}
