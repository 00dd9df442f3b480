// The answers' shapes (src/domain/resources.ts) as JSON Schema. Clients ignore what they do not know, so none is closed.
import * as z from "zod";
import { STEP_STATUSES, JOB_STATUSES } from "../src/api/jobs.ts";
import { EVENT_TYPES } from "../src/domain/event.ts";
import { ERRORS } from "../src/domain/errors.ts";
import { DEAD_CODES } from "../src/domain/message.ts";
import { LOG_SOURCES } from "../src/domain/log-line.ts";
import { stitchSpec } from "../src/domain/spec.ts";
import { HEALTHS, STITCH_STATES } from "../src/domain/stitch.ts";

type Json = Record<string, unknown>;

const text = { type: "string" };
const whole = { type: "integer" };
const number = { type: "number" };
const flag = { type: "boolean" };
const time = { type: "string", format: "date-time" };
const anything = {};
const nullable = (schema: Json): Json => ({ anyOf: [schema, { type: "null" }] });
const oneOf = (values: readonly string[]): Json => ({ enum: [...values] });
const listOf = (items: Json): Json => ({ type: "array", items });
const mapOf = (values: Json): Json => ({ type: "object", additionalProperties: values });
const counts = (names: readonly string[]): Json => object(Object.fromEntries(names.map((name) => [name, whole])));
const named = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });

/** Every property is required but those named in `optional`. */
function object(properties: Record<string, Json>, optional: readonly string[] = []): Json {
  return { type: "object", required: Object.keys(properties).filter((name) => !optional.includes(name)), properties };
}

const LIVENESSES = ["alive", "suspect", "dead", "left"];
const ACTIONS = ["ping", "cordon", "uncordon", "create", "start", "stop", "restart", "remove"];

const step = {
  action: oneOf(ACTIONS),
  stitch: nullable(text),
  status: oneOf(STEP_STATUSES),
  changed: nullable(flag),
  startedAt: nullable(time),
  finishedAt: nullable(time),
  output: anything,
  error: nullable(named("Failure")),
};
const delivery = object(
  {
    stitch: text,
    status: oneOf(["accepted", "acked", "failed", "replied", "timeout", "rejected"]),
    code: text,
    data: text,
  },
  ["code", "data"],
);
const listedJob = {
  id: text,
  command: text,
  target: text,
  options: mapOf(anything),
  reason: nullable(text),
  by: nullable(text),
  master: text,
  status: oneOf(JOB_STATUSES),
  revision: text,
  createdAt: time,
  deadlineAt: time,
  finishedAt: nullable(time),
  counts: counts(["total", ...STEP_STATUSES]),
  progress: object({ wave: whole, waves: whole, message: text }),
  stitches: { ...listOf(text), maxItems: 1000 },
  error: nullable(named("Failure")),
  retryOf: nullable(text),
  retriedBy: nullable(text),
  rollbackOf: nullable(text),
  rolledBackBy: nullable(text),
  causedBy: nullable(text),
};

function specSchema(): Json {
  const { $schema: _, ...json } = z.toJSONSchema(stitchSpec, { io: "output" });
  return json;
}

export const RESOURCE_SCHEMAS: Readonly<Record<string, Json>> = {
  Capacity: object({ cpu: number, memoryBytes: whole }),
  Cluster: object({
    name: text,
    asOf: time,
    nodes: counts(LIVENESSES),
    stitches: counts(STITCH_STATES),
    openJobs: whole,
    masters: listOf(text),
    mode: oneOf(["leaderless", "preferred", "leader"]),
    leader: nullable(text),
    frozen: flag,
    version: text,
  }),
  Node: object({
    id: text,
    incarnation: whole,
    liveness: oneOf(LIVENESSES),
    eligibility: oneOf(["eligible", "cordoned", "draining"]),
    zones: listOf(text),
    labels: mapOf(text),
    capacity: named("Capacity"),
    reserved: named("Capacity"),
    load: nullable(object({ cpuPercent: number, memoryBytes: number, eventLoopDelayMs: number })),
    modules: listOf(text),
    version: text,
    startedAt: time,
    lastHeartbeatAt: time,
    observedAt: time,
    stitchCount: whole,
  }),
  Spec: specSchema(),
  Stitch: object({
    id: text,
    fullId: text,
    node: text,
    group: text,
    desired: oneOf(["running", "stopped"]),
    state: oneOf(STITCH_STATES),
    health: nullable(oneOf(HEALTHS)),
    healthySince: nullable(time),
    revision: text,
    restarts: whole,
    pid: nullable(whole),
    startedAt: nullable(time),
    lastExit: nullable(object({ code: nullable(whole), signal: nullable(text), at: time })),
    resources: nullable(object({ cpuPercent: nullable(number), memoryBytes: number })),
    spec: named("Spec"),
    observedAt: time,
  }),
  LogLine: object({ at: time, source: oneOf(LOG_SOURCES), line: text, continued: { const: true } }, ["continued"]),
  Group: object({
    group: text,
    versions: listOf(text),
    stitches: object({ byState: counts(STITCH_STATES), byVersion: mapOf(whole) }),
  }),
  Failure: object({ code: text, message: text, stderrTail: text }, ["stderrTail"]),
  Step: object(step),
  ListedStep: object({ ...step, task: text, node: text }),
  Task: object({
    id: text,
    node: text,
    status: oneOf(STEP_STATUSES),
    attempt: whole,
    steps: listOf(named("Step")),
  }),
  ListedJob: object(listedJob),
  Job: object({ ...listedJob, tasks: listOf(named("Task")), truncated: { const: true } }, ["truncated"]),
  Refusal: object({ node: text, code: text, message: text }),
  Plan: object({
    command: text,
    target: text,
    feasible: flag,
    tasks: listOf(object({ node: text, steps: listOf(object({ action: oneOf(ACTIONS), stitch: nullable(text) })) })),
    placements: listOf(object({ stitch: text, node: text, reason: text })),
    refusals: listOf(named("Refusal")),
    warnings: listOf(object({ code: text, message: text, stitch: text }, ["stitch"])),
    planToken: nullable(text),
    leastDurationMs: whole,
    asOf: time,
  }),
  JobOrPlan: { anyOf: [named("Job"), named("Plan")] },
  Event: object({
    id: text,
    type: oneOf(EVENT_TYPES),
    at: time,
    node: nullable(text),
    stitch: nullable(text),
    group: nullable(text),
    job: nullable(text),
    data: nullable(mapOf(anything)),
  }),
  Sent: object({ messageId: text, deliveries: listOf(delivery) }),
  DeadLetter: object({
    id: text,
    messageId: text,
    node: text,
    stitch: text,
    from: text,
    channel: text,
    data: text,
    code: oneOf(DEAD_CODES),
    reason: text,
    tries: whole,
    at: time,
  }),
  Status: object({ status: text }),
  Document: { type: "object" },
  Problem: object(
    {
      type: text,
      title: text,
      status: whole,
      detail: text,
      code: oneOf(Object.keys(ERRORS)),
      requestId: text,
      retryable: flag,
      errors: listOf(object({ path: text, message: text })),
      candidates: listOf(text),
      refusals: listOf(named("Refusal")),
      plan: named("Plan"),
      jobId: text,
      movedTo: text,
      messageId: text,
      deliveries: listOf(delivery),
      truncated: flag,
    },
    ["truncated", "messageId", "deliveries", "errors", "candidates", "refusals", "plan", "jobId", "movedTo"],
  ),
};
