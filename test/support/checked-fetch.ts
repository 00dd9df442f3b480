// Checks every answer of an API against its own document: /openapi.json must have its status, its type and its body.
import assert from "node:assert/strict";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import document from "../../src/api/openapi.json" with { type: "json" };

/** The parts of a response that are checked. A response of workerd has them, too. */
type Answer = {
  readonly status: number;
  readonly headers: { readonly get: (name: string) => string | null };
  readonly clone: () => { readonly text: () => Promise<string> };
};
/** `description`: the codes, if it is a refusal. */
type Documented = { readonly description: string; readonly content?: Readonly<Record<string, unknown>> };
type Operation = { readonly name: string; readonly responses: Readonly<Record<string, Documented>> };

/** Like `fetch`, for requests to an API. Fails if the answer is not as documented. Does not read streams and text. */
export const checkedFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const { method, url } = input instanceof Request ? input : { method: "GET", url: input.toString() };
  await checkAnswer(init?.method ?? method, url, response);
  return response;
};

/** Fails if the answer to a request is not as documented. Its body can still be read. */
export async function checkAnswer(method: string, url: string, answer: Answer): Promise<void> {
  const { pathname } = new URL(url, "http://api.test");
  const text = answer.headers.get("content-type")?.includes("json") === true ? await answer.clone().text() : null;
  const type = answer.headers.get("content-type")?.split(";")[0] ?? null;
  const wrong = undocumentedIn(method, pathname, { status: answer.status, type, text });
  assert.ok(wrong === null, `${method} ${pathname}: ${answer.status} ${wrong}: ${text?.slice(0, 1000)}`);
}

/** Fails if a resource is not as documented. */
export function checkResource(name: string, resource: unknown): void {
  const wrong = wrongBody(`${DOCUMENT}#/components/schemas/${name}`, JSON.stringify(resource));
  assert.ok(wrong === null, `${name} ${wrong}: ${JSON.stringify(resource).slice(0, 1000)}`);
}

/**
 * What is not as documented in an answer; null if all is.
 * @param answer `text`: its body, if it is JSON; "" without a body.
 */
export function undocumentedIn(
  method: string,
  path: string,
  { status, type, text }: { readonly status: number; readonly type: string | null; readonly text: string | null },
): string | null {
  const isHead = method === "HEAD";
  const operation = operationOf(isHead ? "GET" : method, path);
  // The document does not have this route, or not with this method: the API may only refuse it.
  if (operation === null) {
    if (type !== PROBLEM || status < 400) return `is the answer of no operation, and of type ${type}`;
    return isHead ? null : wrongBody(`${DOCUMENT}#/components/schemas/Problem`, text);
  }
  const documented = operation.responses[status];
  if (documented === undefined) return `is no status of ${operation.name}`;
  const { content } = documented;
  if (content === undefined) return type === null ? null : `has no body in the document, and comes as ${type}`;
  if (type === null || !Object.hasOwn(content, type))
    return `comes as ${type}, not as ${Object.keys(content).join(", ")}`;
  if (isHead || !type.includes("json")) return null;
  const pointer = ["paths", ...operation.name.split(" ").reverse(), "responses", status, "content", type, "schema"];
  const wrong = wrongBody(`${DOCUMENT}#/${pointer.map(escaped).join("/")}`, text);
  return wrong ?? (type === PROBLEM ? wrongCode(operation.name, documented, text ?? "") : null);
}

function wrongCode(name: string, { description }: Documented, text: string): string | null {
  const { code } = JSON.parse(text) as { code: string };
  return description.split(", ").includes(code) ? null : `has the code ${code}, which is none of ${name}`;
}

const PROBLEM = "application/problem+json";
const DOCUMENT = "openapi.json";

const operations: readonly (Operation & { readonly method: string; readonly path: RegExp })[] = Object.entries(
  document.paths as Readonly<Record<string, Readonly<Record<string, Pick<Operation, "responses">>>>>,
).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { responses }]) => ({
    name: `${method} ${path}`,
    method: method.toUpperCase(),
    path: new RegExp(`^${path.replaceAll(".", "\\.").replaceAll(/\{\w+\}/g, "[^/]+")}$`),
    responses,
  })),
);

const operationOf = (method: string, path: string): Operation | null =>
  operations.find((each) => each.method === method && each.path.test(path)) ?? null;

const ajv = new Ajv2020({ strict: true, allowUnionTypes: true });
formats.default(ajv);
// The document has fields around the schemas that are not part of JSON Schema.
ajv.addVocabulary(Object.keys(document));
ajv.addSchema(closed(document) as object, DOCUMENT);
const validators = new Map<string, ValidateFunction>();

function wrongBody(ref: string, text: string | null): string | null {
  let value: unknown;
  try {
    value = JSON.parse(text ?? "");
  } catch (error) {
    return `has a body that is not JSON (${String(error)})`;
  }
  const validate = validators.get(ref) ?? ajv.compile({ $ref: ref });
  validators.set(ref, validate);
  return validate(value) ? null : `is not as documented (${ajv.errorsText(validate.errors)})`;
}

/** Forbids fields that are not documented. Clients ignore fields that they do not know; here they are a finding. */
function closed(schema: unknown): unknown {
  if (typeof schema !== "object" || schema === null) return schema;
  if (Array.isArray(schema)) return schema.map(closed);
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  return copy["type"] === "object" && "properties" in copy ? { additionalProperties: false, ...copy } : copy;
}

/** A part of a JSON pointer in the fragment of a URI (RFC 6901). */
const escaped = (part: string | number): string =>
  encodeURIComponent(String(part).replaceAll("~", "~0").replaceAll("/", "~1"));
