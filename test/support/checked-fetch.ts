// Holds every answer of an API to its own document: a status, a type and a body that /openapi.json tells of.
import assert from "node:assert/strict";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import document from "../../src/api/openapi.json" with { type: "json" };

/** What of a response is looked at: also workerd's has it. */
type Answer = {
  readonly status: number;
  readonly headers: { readonly get: (name: string) => string | null };
  readonly clone: () => { readonly text: () => Promise<string> };
};
/** `description`: of a refusal, its codes. */
type Documented = { readonly description: string; readonly content?: Readonly<Record<string, unknown>> };
type Operation = { readonly name: string; readonly responses: Readonly<Record<string, Documented>> };

/** As `fetch`, for requests to an API. Fails where the answer is not as documented; streams and text are not looked into. */
export const checkedFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const { method, url } = input instanceof Request ? input : { method: "GET", url: input.toString() };
  await checkAnswer(init?.method ?? method, url, response);
  return response;
};

/** Fails where the answer to a request is not as documented. Its body can still be read. */
export async function checkAnswer(method: string, url: string, answer: Answer): Promise<void> {
  const { pathname } = new URL(url, "http://api.test");
  const text = answer.headers.get("content-type")?.includes("json") === true ? await answer.clone().text() : null;
  const type = answer.headers.get("content-type")?.split(";")[0] ?? null;
  const wrong = undocumentedIn(method, pathname, { status: answer.status, type, text });
  assert.ok(wrong === null, `${method} ${pathname}: ${answer.status} ${wrong}: ${text?.slice(0, 1000)}`);
}

/** Fails where a resource is not what the document says of it. */
export function checkResource(name: string, resource: unknown): void {
  const wrong = wrongBody(`${DOCUMENT}#/components/schemas/${name}`, JSON.stringify(resource));
  assert.ok(wrong === null, `${name} ${wrong}: ${JSON.stringify(resource).slice(0, 1000)}`);
}

/**
 * What is not as documented in an answer; null where all is.
 * @param answer `text`: its body, where it is JSON; "" without one.
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
// Around the schemas stands what is none of JSON Schema.
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

/** Clients ignore what they do not know; here a field that is not documented is a finding. */
function closed(schema: unknown): unknown {
  if (typeof schema !== "object" || schema === null) return schema;
  if (Array.isArray(schema)) return schema.map(closed);
  const copy = Object.fromEntries(Object.entries(schema).map(([name, value]) => [name, closed(value)]));
  return copy["type"] === "object" && "properties" in copy ? { additionalProperties: false, ...copy } : copy;
}

/** A part of a JSON pointer in the fragment of a URI (RFC 6901). */
const escaped = (part: string | number): string =>
  encodeURIComponent(String(part).replaceAll("~", "~0").replaceAll("/", "~1"));
