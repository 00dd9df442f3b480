// Builds src/api/openapi.json ahead of time: at run time, the schema converter would become part of the edge bundle.
//   node infra/openapi.ts > src/api/openapi.json
import * as z from "zod";
import { masterModeBody } from "../src/api/cluster.ts";
import { eventId, eventsQuery } from "../src/api/event-filter.ts";
import { groupsQuery } from "../src/api/groups.ts";
import { idempotencyKey } from "../src/api/idempotency-key.ts";
import { jobsQuery, rollbackBody, stepsQuery } from "../src/api/jobs.ts";
import { lineId, logsQuery } from "../src/api/logs.ts";
import { deadLettersQuery } from "../src/api/messages.ts";
import { nodesQuery } from "../src/api/nodes.ts";
import { noQuery, waitQuery } from "../src/api/query.ts";
import { stitchesQuery } from "../src/api/stitches.ts";
import { COMPONENTS } from "../src/contract/components.ts";
import { COMMANDS } from "../src/domain/commands/command.ts";
import { ERRORS, type ErrorCode } from "../src/domain/errors.ts";
import { sendRequest } from "../src/domain/message.ts";
import { VERSION } from "../src/version.ts";

type Json = Record<string, unknown>;
type Route = {
  readonly summary: string;
  readonly query?: z.ZodObject;
  /** Status → the resource in the answer, or null for no body. */
  readonly answers: Readonly<Record<number, keyof typeof COMPONENTS | null>>;
  /** The media types that a client may accept instead of JSON. */
  readonly forms?: readonly string[];
  /** What `Last-Event-ID` holds, if a stream can be resumed. */
  readonly resumes?: z.ZodString;
  readonly errors: readonly ErrorCode[];
  readonly open?: true;
  /** Takes an `Idempotency-Key`. */
  readonly keyed?: true;
  readonly more?: Json;
};

const JOB = { 200: "Job", 202: "Job" } as const;
/** The errors that any route may answer. */
const ANY: readonly ErrorCode[] = [
  "invalid_request",
  "unauthenticated",
  "forbidden",
  "request_timeout",
  "headers_too_large",
  "internal",
  "redis_unavailable",
  "shutting_down",
];
const schemaRef = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const body = (schema: Json, type = "application/json"): Json => ({ content: { [type]: { schema } } });
const text = (type: string): Json => ({ 200: { description: "OK", ...body({ type: "string" }, type) } });

/** Every route of the app, by method and pattern; a test compares them with the app's routes. */
export const ROUTES: Readonly<Record<string, Route>> = {
  "GET /v1/cluster": { summary: "The cluster at a glance", answers: { 200: "Cluster" }, errors: [] },
  "POST /v1/masters/mode": {
    summary: "Change the mode of the Masters; processes that are set to another mode decide no more",
    answers: { 200: "MasterMode" },
    errors: ["invalid_json", "unsupported_media_type", "too_large"],
    more: { requestBody: { required: true, ...body(inputSchema(masterModeBody)) } },
  },
  "GET /v1/nodes": { summary: "Nodes, by id", query: nodesQuery, answers: { 200: "NodeList" }, errors: [] },
  "GET /v1/nodes/:node": { summary: "A node", answers: { 200: "Node" }, errors: ["not_found"] },
  "POST /v1/nodes/:node/adopt": {
    summary: "Take a node's word for its stitches, where Redis came back empty or older",
    answers: { 200: "Adopted" },
    errors: ["not_found", "too_large"],
  },
  "DELETE /v1/nodes/:node": {
    summary: "Forget a dead or left node with its stitches, queue and routes",
    answers: { 204: null },
    errors: ["not_found", "node_alive"],
  },
  "GET /v1/stitches": {
    summary: "Stitches, by full id",
    query: stitchesQuery,
    answers: { 200: "StitchList" },
    errors: [],
  },
  "GET /v1/stitches/:stitch": {
    summary: "A stitch, by full id or by a bare id that is unambiguous",
    answers: { 200: "Stitch" },
    errors: ["not_found", "ambiguous_stitch"],
  },
  "GET /v1/stitches/:stitch/logs": {
    summary:
      "The last lines of a stitch's log as JSON or bare text; as server-sent events (event: line) it is followed",
    query: logsQuery,
    answers: { 200: "LogLineList" },
    forms: ["text/plain", "text/event-stream"],
    resumes: lineId,
    errors: ["not_found", "ambiguous_stitch", "rate_limited", "unsupported", "inbox_full", "node_unreachable"],
  },
  "GET /v1/groups": {
    summary: "Groups of two parts",
    query: groupsQuery,
    answers: { 200: "GroupList" },
    errors: [],
  },
  "GET /v1/groups/:group": {
    summary: "A group and everything inside it",
    answers: { 200: "Group" },
    errors: ["not_found"],
  },
  "POST /v1/commands": {
    summary: "Give a command: 200 where its job has ended or it was a dry run, else 202",
    query: waitQuery,
    answers: { 200: "JobOrPlan", 202: "Job" },
    errors: [
      "wrong_mode",
      "no_leader",
      "invalid_json",
      "unknown_command",
      "not_found",
      "ambiguous_stitch",
      "stitch_exists",
      "idempotency_conflict",
      "placement_failed",
      "plan_stale",
      "group_busy",
      "no_template",
      "spec_unknown",
      "too_large",
      "unsupported_media_type",
      "rate_limited",
      "unsupported",
    ],
    keyed: true,
    more: { requestBody: { required: true, ...body(schemaRef("Command")) } },
  },
  "GET /v1/jobs": {
    summary: "Jobs, newest first",
    query: jobsQuery,
    answers: { 200: "JobList" },
    errors: [],
  },
  "GET /v1/jobs/:job": {
    summary: "A job; with waitMs, when it ends or the time is up",
    query: waitQuery,
    answers: JOB,
    errors: ["not_found", "rate_limited", "unsupported"],
  },
  "GET /v1/jobs/:job/steps": {
    summary: "All steps of a job",
    query: stepsQuery,
    answers: { 200: "StepList" },
    errors: ["not_found"],
  },
  "POST /v1/jobs/:job/cancel": {
    summary: "End what nobody has taken up",
    answers: JOB,
    errors: ["not_found", "job_finished", "too_large"],
  },
  "POST /v1/jobs/:job/retry": {
    summary: "Repeat the parts of a finished job that did not succeed, as a new job; safe to repeat",
    answers: JOB,
    errors: [
      "wrong_mode",
      "no_leader",
      "not_found",
      "ambiguous_stitch",
      "stitch_exists",
      "placement_failed",
      "group_busy",
      "job_finished",
      "no_template",
      "spec_unknown",
      "too_large",
    ],
  },
  "POST /v1/jobs/:job/rollback": {
    summary: "Take back what a finished job has changed, as a new job; safe to repeat",
    answers: JOB,
    errors: [
      "wrong_mode",
      "no_leader",
      "invalid_json",
      "unsupported_media_type",
      "not_found",
      "ambiguous_stitch",
      "stitch_exists",
      "placement_failed",
      "group_busy",
      "not_reversible",
      "no_template",
      "spec_unknown",
      "too_large",
    ],
    more: { requestBody: { required: false, ...body(inputSchema(rollbackBody)) } },
  },
  "POST /v1/messages": {
    summary: "Send a message: 202 once it is stored, or 200 with what became of it",
    answers: { 200: "Sent", 202: "Sent" },
    errors: [
      "invalid_json",
      "not_found",
      "no_recipient",
      "ambiguous_stitch",
      "not_addressable",
      "idempotency_conflict",
      "inbox_full",
      "rate_limited",
      "unsupported",
      "stitch_failed",
      "reply_timeout",
      "too_large",
      "unsupported_media_type",
    ],
    keyed: true,
    more: { requestBody: { required: true, ...body(schemaRef("SendRequest")) } },
  },
  "GET /v1/dead-letters": {
    summary: "Messages that could not be delivered, by node, oldest first",
    query: deadLettersQuery,
    answers: { 200: "DeadLetterList" },
    errors: [],
  },
  "POST /v1/dead-letters/:id/redrive": {
    summary: "Send a dead letter again, to where its recipient lives now",
    answers: { 202: "Sent" },
    errors: ["not_found", "no_recipient", "ambiguous_stitch", "not_addressable", "inbox_full", "too_large"],
  },
  "DELETE /v1/dead-letters/:id": { summary: "Delete a dead letter", answers: { 204: null }, errors: ["not_found"] },
  "GET /v1/events": {
    summary: "Events as they happen (server-sent events), or with Accept: application/json those so far",
    query: eventsQuery,
    answers: { 200: "EventList" },
    forms: ["text/event-stream"],
    resumes: eventId,
    errors: ["events_gone", "rate_limited", "unsupported"],
  },
  "GET /livez": { summary: "Is the process up", answers: { 200: "Status" }, errors: [], open: true },
  "GET /readyz": { summary: "Does Redis answer", answers: { 200: "Status" }, errors: [], open: true },
  "GET /openapi.json": { summary: "This document", answers: { 200: "Document" }, errors: [] },
  "GET /metrics": {
    summary: "Metrics in Prometheus's text format (not at the edge)",
    answers: {},
    errors: ["not_found"],
    more: { responses: text("text/plain") },
  },
};

export function buildOpenApi(): Json {
  const paths: Record<string, Json> = {};
  for (const [name, route] of Object.entries(ROUTES)) {
    const [method = "", pattern = ""] = name.split(" ");
    const path = pattern.replace(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation(name, route) };
  }
  return {
    openapi: "3.1.0",
    // Relative to the document's URL: every API serves its own document.
    servers: [{ url: "/" }],
    info: { title: "CrossStitch", version: VERSION, license: { name: "MIT", identifier: "MIT" } },
    security: [{ token: [] }, {}],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      headers: { RequestId: { schema: { type: "string" } } },
      schemas: { ...answerSchemas(), ...commandSchemas(), SendRequest: inputSchema(sendRequest) },
    },
  };
}

function operation(name: string, route: Route): Json {
  const { responses: own = {}, ...more } = route.more ?? {};
  const [, pattern = ""] = name.split(" ");
  const parameters = [
    ...[...pattern.matchAll(/:(\w+)/g)].map(([, part]) => ({
      name: part,
      in: "path",
      required: true,
      schema: { type: "string" },
    })),
    ...queryParameters(route.query ?? noQuery),
    ...(route.keyed === true ? [header("Idempotency-Key", idempotencyKey)] : []),
    ...(route.resumes === undefined ? [] : [header("Last-Event-ID", route.resumes)]),
  ];
  return {
    operationId: operationId(name),
    summary: route.summary,
    ...(route.open === true ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...more,
    responses: { ...answers(route), ...(own as Json), ...problems(route) },
  };
}

const operationId = (name: string): string =>
  name
    .toLowerCase()
    .replace(/\/v1\b/, "")
    .split(/[^a-z]+/)
    .filter((word) => word !== "")
    .map((word, index) => (index === 0 ? word : `${word[0]?.toUpperCase()}${word.slice(1)}`))
    .join("");

function header(name: string, schema: z.ZodString): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema);
  return { name, in: "header", required: false, schema: json };
}

function queryParameters(schema: z.ZodObject): Json[] {
  const asked = z.toJSONSchema(schema, { io: "input" }).properties ?? {};
  const read = z.toJSONSchema(schema, { io: "output", unrepresentable: "any" }).properties ?? {};
  return Object.keys(asked).map((name) => ({
    name,
    in: "query",
    required: false,
    // A query holds numbers as text, so the input schema says text; the document shows the real type.
    schema: isWhole(read[name]) ? read[name] : asked[name],
  }));
}

const isWhole = (schema: z.core.JSONSchema._JSONSchema | undefined): boolean =>
  typeof schema === "object" && schema.type === "integer";

function answers(route: Route): Json {
  const entries = Object.entries(route.answers).map(([status, resource]) => {
    const content = resource === null ? {} : body(schemaRef(resource));
    for (const form of route.forms ?? [])
      Object.assign(content["content"] as Json, { [form]: { schema: { type: "string" } } });
    const accepted = resource === "Job" ? "The job has not ended yet" : "Stored";
    const description = status === "202" ? accepted : status === "204" ? "Done" : "OK";
    return [status, { description, headers: headersOf(route), ...content }];
  });
  return Object.fromEntries(entries) as Json;
}

function headersOf(route: Route): Json {
  const replayed = { "Idempotent-Replayed": { schema: { const: "true" } } };
  return {
    "X-Request-Id": { $ref: "#/components/headers/RequestId" },
    ...(route.keyed ? replayed : {}),
  };
}

/** One response per status; its description lists the codes. */
function problems(route: Route): Json {
  const codes = new Map<number, ErrorCode[]>();
  for (const code of [...ANY, ...route.errors]) {
    const { status } = ERRORS[code];
    codes.set(status, [...(codes.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...codes].map(([status, list]) => [
      status,
      { description: list.join(", "), ...body(schemaRef("Problem"), "application/problem+json") },
    ]),
  );
}

/** The schemas of answers. Clients ignore unknown fields, so no schema of an answer is closed. */
function answerSchemas(): Json {
  const named = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(COMPONENTS)) named.add(schema as z.ZodType, { id });
  const { schemas } = z.toJSONSchema(named, {
    io: "output",
    uri: (id) => `#/components/schemas/${id}`,
    override: ({ jsonSchema }) => {
      openTuple(jsonSchema);
      if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
      // The format is enough; nobody reads a pattern of 300 characters.
      if (jsonSchema.format === "date-time") delete jsonSchema.pattern;
      // zod adds these bounds to every integer.
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      // A field that has a default in a request is always present in an answer.
      delete jsonSchema.default;
    },
  });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...json }]) => [id, json as Json]),
  );
}

/** Turns a tuple that has further items into a list: client generators would end it after the items that are listed singly. */
function openTuple(schema: z.core.JSONSchema.BaseSchema): void {
  if (schema.items !== undefined) delete schema.prefixItems;
}

/**
 * The schema of a request. A default is only in the description: client generators treat a property with a `default` as
 * always present, and would require all of them in every request.
 */
function inputSchema(schema: z.ZodType): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io: "input",
    override: ({ jsonSchema }) => {
      openTuple(jsonSchema);
      if (jsonSchema.default === undefined) return;
      jsonSchema.description = `Default: ${JSON.stringify(jsonSchema.default)}`;
      delete jsonSchema.default;
    },
  });
  return json;
}

function commandSchemas(): Json {
  const names = Object.entries(COMMANDS).map(([command, { schema }]) => {
    return [`Command.${command}`, inputSchema(schema)] as const;
  });
  const mapping = Object.fromEntries(
    Object.keys(COMMANDS).map((name) => [name, `#/components/schemas/Command.${name}`]),
  );
  return {
    Command: {
      oneOf: names.map(([name]) => schemaRef(name)),
      discriminator: { propertyName: "command", mapping },
    },
    ...Object.fromEntries(names),
  };
}

if (import.meta.main) process.stdout.write(`${JSON.stringify(buildOpenApi(), null, 1)}\n`);
