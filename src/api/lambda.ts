import * as z from "zod";
import { orLate } from "../bounded-wait.ts";
import { RequestError } from "../domain/errors.ts";
import { sharedApi } from "./shared-api.ts";
import type { Platform } from "./platform.ts";
import { problemResponse } from "./problem.ts";

const LAMBDA: Platform = {
  masterId: "api-lambda",
  // API Gateway ends a request after 29 s, and the answer itself may take 3 s.
  limits: { platform: "AWS Lambda", streams: false, maxWaitMs: 25_000 },
  howToSet: (setting) => `the environment variable ${setting} of the function`,
};

/**
 * Most bytes of an answer: Lambda takes 6 MB, in which the body stands as a JSON string.
 * https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
 */
const MAX_ANSWER_BYTES = 6_000_000;

/**
 * The parts that are read of an event in the payload format 2.0, which API Gateway's HTTP APIs and function URLs send.
 * https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
 */
const lambdaEvent = z.object({
  version: z.literal("2.0"),
  rawPath: z.string(),
  rawQueryString: z.string().nullish(),
  headers: z.record(z.string(), z.string()).nullish(),
  requestContext: z.object({
    domainName: z.string().default("lambda.invalid"),
    http: z.object({ method: z.string() }),
  }),
  body: z.string().nullish(),
  isBase64Encoded: z.boolean().default(false),
});

type LambdaResult = {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly isBase64Encoded: false;
};

/**
 * Lambda stops the process as soon as the result is there, so the result waits for what goes on after an answer: with the time for
 * the answer, less than the promised 3 s. A sweep repairs what is not done by then.
 */
const SETTLE_MS = 200;

const api = sharedApi(process.env, LAMBDA);

/**
 * The API as an AWS Lambda function on Node, behind API Gateway (HTTP API) or a function URL. Settings and secrets are the function's
 * environment; a token is required. Nothing can be streamed, and a request waits for 25 s at most: both are refused with `unsupported`.
 */
export async function handler(event: unknown): Promise<LambdaResult> {
  const request = requestOf(event);
  const result = await resultOf(request instanceof Request ? await api.fetch(request) : problemResponse(request));
  await orLate(api.settled(), SETTLE_MS);
  return result;
}

function requestOf(event: unknown): Request | RequestError {
  const parsed = lambdaEvent.safeParse(event);
  if (!parsed.success)
    return new RequestError(
      "invalid_request",
      "This is no event in the payload format 2.0: use an HTTP API of API Gateway, or a function URL.",
    );
  const { rawPath, rawQueryString, headers, requestContext, body, isBase64Encoded } = parsed.data;
  const { method } = requestContext.http;
  // A request cannot be made with such a body, and no route reads it.
  const hasBody = body != null && body !== "" && method !== "GET" && method !== "HEAD";
  try {
    const url = new URL(`https://${requestContext.domainName}`);
    // Set by themselves, because API Gateway may have decoded the path: then it can contain `?` and `#`.
    url.pathname = rawPath;
    url.search = rawQueryString ?? "";
    return new Request(url, {
      method,
      headers: headers ?? {},
      body: !hasBody ? null : isBase64Encoded ? Buffer.from(body, "base64") : body,
    });
  } catch (cause) {
    return new RequestError(
      "invalid_request",
      "The method, the URL or a header of the request is not valid.",
      {},
      { cause },
    );
  }
}

async function resultOf(response: Response): Promise<LambdaResult> {
  // The API answers text only.
  const body = await response.text();
  if (Buffer.byteLength(JSON.stringify(body)) > MAX_ANSWER_BYTES)
    return resultOf(
      problemResponse(
        new RequestError(
          "unsupported",
          "The answer is larger than AWS Lambda can send: ask for less, by limit or tail.",
        ),
      ),
    );
  return { statusCode: response.status, headers: Object.fromEntries(response.headers), body, isBase64Encoded: false };
}
