import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { Worker } from "node:worker_threads";
import { ROUTES } from "../../infra/openapi.ts";
import { Chance } from "./chance.ts";
import { undocumentedIn } from "./checked-fetch.ts";
import type { Probed } from "./livez-probe.ts";
import { BODIES, spoilt } from "./worst-bodies.ts";

const AT_ONCE = 4;
/** A request that waits longer is given up: /livez shows whether the API still answers. */
const PATIENCE_MS = 500;
const MAX_REFUSAL_BYTES = 64 * 1024;
const LIVEZ_MS = 1000;
const MAX_FINDINGS = 5;

type FuzzOptions = {
  /** What every request has, such as the token. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A server of the platform reads the requests, and refuses by itself what is no HTTP: the API is sent none of that. */
  readonly behindAServer?: boolean;
};

type FuzzReport = {
  readonly requests: number;
  /** How many requests got an answer with this status. */
  readonly statuses: ReadonlyMap<number, number>;
  readonly livez: Probed;
  /** What is wrong, each with how to repeat it; empty if all is well. */
  readonly findings: readonly string[];
};

/**
 * Sends an API requests that are wrong in every way, with bodies of up to 8 MB, for `forMs`. The same seed draws the same
 * requests. Some may happen to be valid, so use a cluster in which nothing matters.
 */
export async function fuzzHttp(
  url: string,
  seed: number,
  forMs: number,
  { headers = {}, behindAServer = false }: FuzzOptions = {},
): Promise<FuzzReport> {
  const findings: string[] = [];
  const statuses = new Map<number, number>();
  let requests = 0;
  const endAtMs = performance.now() + forMs;
  const probe = new Worker(new URL("livez-probe.ts", import.meta.url), { workerData: { url } });
  const client = async (name: string): Promise<void> => {
    const chance = new Chance(seed, name);
    for (let n = 1; performance.now() < endAtMs && findings.length < MAX_FINDINGS; n++) {
      const drawn = draw(chance);
      const passes = !behindAServer || (drawn.way !== "raw" && STANDARD.test(drawn.method));
      if (!passes) continue;
      const one = { ...drawn, headers: { ...drawn.headers, ...headers } };
      const answer = await send(url, one);
      requests += 1;
      if (answer === null) continue;
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      const wrong = wrongWith(answer) ?? undocumented(url, one, answer);
      if (wrong !== null) findings.push(`${wrong}, seed ${seed}, ${name}, request ${n}: ${described(one)}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, index) => client(`client ${index}`)));
  probe.postMessage("end");
  const [livez] = (await once(probe, "message")) as [Probed];
  await probe.terminate();
  // Behind a server of the platform, that server decides who waits: Lambda gives each request an instance of its own, or lets it wait.
  if (!behindAServer && livez.slowestMs > LIVEZ_MS + livez.latestMs)
    findings.push(`/livez took ${livez.slowestMs} ms, where ${livez.latestMs} ms are the machine's; seed ${seed}`);
  return { requests, statuses, livez, findings };
}

type Drawn = {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** How the client sends the body: all of it, in chunks without a length, half of it, or as raw bytes instead of HTTP. */
  readonly way: "whole" | "chunked" | "half" | "raw";
};
type Answer = {
  readonly status: number;
  readonly type: string;
  readonly id: string;
  readonly bytes: number;
  /** Its body, if it is JSON and was read. */
  readonly text: string | null;
};

const STANDARD = /^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)$/;
const PLACE = '"@bulk@"';
/** The bodies of every schema, with a place for something large. */
const TEMPLATES = BODIES.flatMap(({ path, schema }) =>
  spoilt(schema, "@bulk@").map((body) => ({ path, text: JSON.stringify(body) })),
);
const PATTERNS = Object.keys(ROUTES).map((route) => route.split(" ") as [string, string]);

function draw(chance: Chance): Drawn {
  const way = chance.oneOf<Drawn["way"]>(["whole", "whole", "whole", "whole", "chunked", "half", "raw"]);
  const headers: Record<string, string> = {};
  if (chance.next() < 0.1) headers["idempotency-key"] = text(chance, 200);
  if (chance.next() < 0.1)
    headers["accept"] = chance.oneOf(["text/event-stream", "text/plain", "application/json", "x"]);
  if (chance.next() < 0.05) headers["last-event-id"] = text(chance, 40);
  if (chance.next() < 0.05) headers["x-request-id"] = text(chance, 300);
  if (chance.next() < 0.02) headers["x-long"] = "x".repeat(chance.between(1, 30_000));
  if (chance.next() < 0.6) {
    const template = TEMPLATES[chance.between(0, TEMPLATES.length)] ?? { path: "/v1/commands", text: PLACE };
    headers["content-type"] = chance.next() < 0.97 ? "application/json" : "text/plain";
    const given = Buffer.from(template.text.replace(PLACE, () => bulk(chance)));
    return { method: "POST", path: template.path + query(chance), headers, body: spoil(chance, given), way };
  }
  const [method, pattern] = PATTERNS[chance.between(0, PATTERNS.length)] ?? ["GET", "/"];
  const path = pattern.replaceAll(/:\w+/g, () => encodeURIComponent(chance.next() < 0.3 ? "n1" : text(chance, 100)));
  const body = method === "POST" ? Buffer.from(bulk(chance)) : Buffer.alloc(0);
  const asked = chance.next() < 0.9 ? method : chance.oneOf(["PUT", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"]);
  return { method: asked, path: path + query(chance), headers, body, way };
}

/** A JSON text of a random size, from nothing to 8 MB; each order of magnitude is equally likely. */
function bulk(chance: Chance): string {
  const size = Math.floor(2 ** (chance.next() * 21));
  switch (chance.between(0, 9)) {
    case 0:
      return `[${"1,".repeat(size)}1]`;
    case 1:
      return `[${"[],".repeat(size)}{}]`;
    case 2:
      return "[".repeat(size) + "]".repeat(size);
    case 3:
      return '{"a":'.repeat(size) + "1" + "}".repeat(size);
    case 4:
      return `{${Array.from({ length: size / 8 }, (_, index) => `"k${index}":1`).join(",")}}`;
    case 5:
      return JSON.stringify(chance.oneOf(["x", "\u0000", "é", '"', "\\", "."]).repeat(size));
    case 6:
      return `{${JSON.stringify("\n".repeat(size))}:1}`;
    case 7:
      return chance.oneOf([
        "1e999",
        "-0",
        "1".repeat(400),
        "null",
        "true",
        '"__proto__"',
        '{"__proto__":{}}',
        "[]",
        '""',
      ]);
    default:
      return JSON.stringify(text(chance, 100));
  }
}

/** Sometimes changes one byte, or cuts off the end. */
function spoil(chance: Chance, body: Buffer): Buffer {
  if (body.length === 0 || chance.next() < 0.85) return body;
  if (chance.next() < 0.5) return body.subarray(0, chance.between(0, body.length));
  body[chance.between(0, body.length)] = chance.between(0, 256);
  return body;
}

function query(chance: Chance): string {
  if (chance.next() < 0.7) return "";
  const names = [
    "waitMs",
    "limit",
    "cursor",
    "since",
    "type",
    "node",
    "group",
    "status",
    "tail",
    "state",
    text(chance, 20),
  ];
  const name = names[chance.between(0, names.length)] ?? "";
  const value = chance.next() < 0.5 ? String(chance.between(-1, 70_000)) : text(chance, 3000);
  return `?${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
}

function text(chance: Chance, longest: number): string {
  const letters = chance.oneOf(["abc-", "n1:.", "\u0000\n\r", "é€", "%2f/..", "0123456789-"]);
  return Array.from({ length: chance.between(1, longest) }, () => letters[chance.between(0, letters.length)]).join("");
}

/** @returns null if there is no answer: the client has left, or the API has cut it off before the end of its body. */
function send(url: string, { method, path, headers, body, way }: Drawn): Promise<Answer | null> {
  if (way === "raw") return sendRaw(url, body);
  return new Promise((resolve) => {
    const length = way === "chunked" || body.length === 0 ? {} : { "content-length": String(body.length) };
    const sane = Object.entries(headers).map(([name, value]) => [name, value.replaceAll(/[^\t\x20-\x7e]/g, "?")]);
    const sent = request(url + path, { method, agent: false, headers: { ...Object.fromEntries(sane), ...length } });
    const leave = (answer: Answer | null): void => {
      clearTimeout(patience);
      sent.destroy();
      resolve(answer);
    };
    const patience = setTimeout(() => leave(null), PATIENCE_MS);
    sent.on("error", () => leave(null));
    sent.on("response", (response) => {
      const { statusCode: status = 0, headers: given } = response;
      const type = given["content-type"] ?? "";
      const answer = { status, type, id: String(given["x-request-id"] ?? ""), bytes: 0, text: null };
      if (type.startsWith("text/event-stream")) return leave(answer);
      const pieces: Buffer[] = [];
      response.on("data", (piece: Buffer) => pieces.push(piece));
      response.on("end", () => {
        const came = Buffer.concat(pieces);
        leave({ ...answer, bytes: came.length, text: type.includes("json") ? came.toString() : null });
      });
    });
    if (way === "half") sent.write(body.subarray(0, body.length / 2), () => leave(null));
    else sent.end(body.length === 0 ? undefined : body);
  });
}

/** Sends bytes that may not be HTTP at all. */
async function sendRaw(url: string, body: Buffer): Promise<Answer | null> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  let came = "";
  socket.on("data", (piece) => (came += piece.toString("latin1")));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => undefined);
  socket.end(Buffer.concat([body.subarray(0, 100_000), Buffer.from("\r\n\r\n")]));
  const patience = setTimeout(() => socket.destroy(), PATIENCE_MS);
  await closed;
  clearTimeout(patience);
  const status = /^HTTP\/1\.1 (\d{3})/.exec(came)?.[1];
  if (status === undefined) return null;
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, "im").exec(came)?.[1]?.trim() ?? "";
  return {
    status: Number(status),
    type: field("content-type"),
    id: field("x-request-id"),
    bytes: came.length,
    text: null,
  };
}

function wrongWith({ status, type, id, bytes }: Answer): string | null {
  // 501: the platform cannot do this. An API on Node never says that.
  if (status >= 500 && status !== 501) return `status ${status}`;
  if (status < 400) return null;
  if (id === "") return `no X-Request-Id on ${status}`;
  // The answer to HEAD has no body.
  if (bytes > 0 && !type.startsWith("application/problem+json")) return `${status} is of type "${type}"`;
  return bytes > MAX_REFUSAL_BYTES ? `${status} has ${bytes} bytes` : null;
}

/** What of an answer is not in /openapi.json; null if all is. Raw bytes are not checked: they may be any request. */
function undocumented(url: string, { method, path, way }: Drawn, { status, type, text }: Answer): string | null {
  if (way === "raw") return null;
  const { pathname } = new URL(url + path);
  const answer = { status, type: type === "" ? null : (type.split(";")[0] ?? null), text };
  const wrong = undocumentedIn(method, pathname, answer);
  return wrong === null ? null : `${status} ${wrong}`;
}

function described({ method, path, headers, body, way }: Drawn): string {
  const shown = body.length > 300 ? `${body.subarray(0, 300).toString()}… (${body.length} bytes)` : body.toString();
  return `${method} ${path.slice(0, 300)}, ${way}, ${JSON.stringify(headers).slice(0, 300)}, ${shown}`;
}
