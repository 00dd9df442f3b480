// Stands for AWS in front of the Lambda function: turns HTTP requests into events and the function's results into answers.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
// https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
import { isUtf8 } from "node:buffer";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { build } from "esbuild";

/** What the function returns, for either source. */
export type LambdaAnswer = {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly isBase64Encoded: boolean;
};

/** Who sends the event. */
export type Source = "gateway" | "function-url";

/** A function with as many instances as there were requests at once. */
export type LambdaHost = {
  readonly url: string;
  /** What all instances have written. */
  readonly output: () => string;
  /** The process ids of the instances. */
  readonly instances: () => readonly number[];
  /** Has an instance handle an event, and resolves with its result as JSON has it. */
  readonly invoke: (event: unknown) => Promise<LambdaAnswer>;
  readonly close: () => Promise<void>;
};

const TEXT_TYPES = /^(text\/|application\/(json|javascript|xml|problem\+json))/;
/** Larger than the request that the API itself would refuse, so that this host refuses none. */
const MAX_HEADER_BYTES = 64 * 1024;

/** The event for a request, in payload format 2.0. */
export function eventOf(request: IncomingMessage, body: Buffer, source: Source): Record<string, unknown> {
  const [rawPath = "/", ...query] = (request.url ?? "/").split("?");
  const rawQueryString = query.join("?");
  const { cookie, ...others } = request.headersDistinct;
  const headers = Object.fromEntries(Object.entries(others).map(([name, values = []]) => [name, values.join(",")]));
  const isText = TEXT_TYPES.test(headers["content-type"] ?? "text/") && isUtf8(body);
  const fromUrl = source === "function-url";
  const id = fromUrl ? "yz0abcdefghijklmnopqrstuvwxyz012" : "ab1cdefgh2";
  const domainName = fromUrl ? `${id}.lambda-url.eu-central-1.on.aws` : `${id}.execute-api.eu-central-1.amazonaws.com`;
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath,
    rawQueryString,
    ...(cookie === undefined ? {} : { cookies: cookie.flatMap((line) => line.split("; ")) }),
    headers: { ...headers, host: domainName, "x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https" },
    ...(rawQueryString === ""
      ? {}
      : { queryStringParameters: Object.fromEntries(new URLSearchParams(rawQueryString)) }),
    requestContext: {
      accountId: fromUrl ? "anonymous" : "123456789012",
      apiId: id,
      domainName,
      domainPrefix: id,
      http: {
        method: request.method,
        path: rawPath,
        protocol: "HTTP/1.1",
        sourceIp: "192.0.2.1",
        userAgent: headers["user-agent"] ?? "",
      },
      requestId: "JKJaXmPLvHcESHA=",
      routeKey: "$default",
      stage: "$default",
      time: "01/Dec/2026:12:00:00 +0000",
      timeEpoch: 1_796_126_400_000,
    },
    ...(body.length === 0 ? {} : { body: body.toString(isText ? "utf8" : "base64") }),
    isBase64Encoded: body.length > 0 && !isText,
  };
}

/** Bundles the function as docs/http.md (Platforms) says, with all that it needs in one file. */
async function bundleFunction(file: string): Promise<void> {
  await build({
    stdin: {
      contents: 'export { handler } from "./src/api/lambda.ts";',
      resolveDir: join(import.meta.dirname, "../.."),
    },
    bundle: true,
    platform: "node",
    outfile: file,
    logLevel: "error",
  });
}

/** Starts the function with these settings. Its events come in turn from API Gateway and from a function URL. */
export async function startLambda(env: Readonly<Record<string, string>>): Promise<LambdaHost> {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-lambda-"));
  const bundle = join(dir, "function.cjs");
  await bundleFunction(bundle);
  const all: ChildProcess[] = [];
  const idle: ChildProcess[] = [];
  let output = "";
  let requests = 0;

  function start(): ChildProcess {
    const { PATH = "", NODE_COMPILE_CACHE = "" } = process.env;
    const instance = fork(join(import.meta.dirname, "lambda-instance.ts"), [bundle], {
      env: { PATH, NODE_COMPILE_CACHE, ...env },
      execArgv: [],
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    for (const stream of [instance.stdout, instance.stderr])
      stream?.on("data", (text: Buffer) => (output += text.toString()));
    all.push(instance);
    return instance;
  }

  async function invoke(event: unknown): Promise<LambdaAnswer> {
    const instance = idle.pop() ?? start();
    const ended = Promise.withResolvers<never>();
    const onExit = () => ended.reject(new Error(`an instance has ended:\n${output}`));
    instance.once("exit", onExit);
    const answered = once(instance, "message");
    instance.send(event as object);
    const [answer] = (await Promise.race([answered, ended.promise])) as [LambdaAnswer];
    instance.off("exit", onExit);
    idle.push(instance);
    return answer;
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request);
    requests += 1;
    const answer = await invoke(eventOf(request, body, requests % 2 === 0 ? "function-url" : "gateway"));
    response.writeHead(answer.statusCode, answer.headers);
    response.end(answer.isBase64Encoded ? Buffer.from(answer.body, "base64") : answer.body);
  }

  const server = createServer({ maxHeaderSize: MAX_HEADER_BYTES }, (request, response) => {
    // A client that is gone before its request is whole gets no answer; AWS answers 502 if the function fails.
    serve(request, response).catch(() => (request.complete ? response.writeHead(502).end() : response.destroy()));
  });
  // Longer than a client keeps an idle connection: a request on one that this end closes just then would fail.
  server.keepAliveTimeout = 60_000;
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    output: () => output,
    instances: () => all.map(({ pid = 0 }) => pid),
    invoke,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await Promise.all(
        all
          .filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
          .map(async (instance) => {
            const ended = once(instance, "exit");
            instance.kill("SIGKILL");
            await ended;
          }),
      );
      await rm(dir, { recursive: true, force: true });
    },
  };
}
