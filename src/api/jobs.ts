import * as z from "zod";
import { COMMAND_NAMES } from "../domain/commands/command-names.ts";
import { commandReason } from "../domain/commands/body.ts";
import { nodeId, jobId } from "../domain/names/ids.ts";
import { JOB_STATUSES, STEP_STATUSES } from "../domain/job/job-status.ts";
import type { JobResource } from "../contract/job.ts";
import { type Api, type ApiContext, masterFor } from "./deps.ts";
import { readJson } from "./json-body.ts";
import { takesNoBody } from "./no-body.ts";
import { invalidRequest } from "./problem.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery, waitQuery } from "./query.ts";
import type { Waits } from "./waits.ts";

export const jobsQuery = z.strictObject({
  ...pageQuery,
  status: z.enum(JOB_STATUSES).optional(),
  target: z.string().min(1).max(255).optional(),
  command: z.enum(COMMAND_NAMES).optional(),
});
export const stepsQuery = z.strictObject({
  ...pageQuery,
  status: z.enum(STEP_STATUSES).optional(),
  node: nodeId.optional(),
});

/** For the body of a rollback: a reason, and room for unknown fields that are then refused by name. */
const MAX_TOKENS = 100;

export const rollbackBody = z.strictObject({ reason: commandReason });

/** The status is about the request, never about the job's verdict: 200 once the job has ended, 202 before. */
export const jobAnswer = (c: ApiContext, job: JobResource): Response =>
  c.json(job, job.finishedAt === null ? 202 : 200);

export function routeJobs(app: Api, waits: Waits): void {
  app.get("/v1/jobs", async (c) => {
    const query = readQuery(c, jobsQuery);
    const { commands } = await masterFor(c);
    return c.json(await commands.jobs(pageOf(query), query));
  });
  app.get("/v1/jobs/:job", async (c) => {
    const { waitMs } = readQuery(c, waitQuery);
    const id = readPath(c, "job", jobId);
    const job = async () => {
      const { commands } = await masterFor(c);
      return commands.job(id, waitMs);
    };
    return jobAnswer(c, await waits.during(c, waitMs, job));
  });
  app.get("/v1/jobs/:job/steps", async (c) => {
    const query = readQuery(c, stepsQuery);
    const id = readPath(c, "job", jobId);
    const { commands } = await masterFor(c);
    return c.json(await commands.steps(id, pageOf(query), query));
  });
  for (const name of ["cancel", "retry"] as const) {
    app.post(`/v1/jobs/:job/${name}`, async (c) => {
      readQuery(c, noQuery);
      const id = readPath(c, "job", jobId);
      await takesNoBody(c, name);
      const { commands } = await masterFor(c);
      return jobAnswer(c, await commands[name](id));
    });
  }
  app.post("/v1/jobs/:job/rollback", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "job", jobId);
    const isEmpty = (await c.req.arrayBuffer()).byteLength === 0;
    const body = rollbackBody.safeParse(isEmpty ? {} : await readJson(c, MAX_TOKENS));
    if (!body.success) throw invalidRequest(body.error);
    const { commands } = await masterFor(c);
    return jobAnswer(c, await commands.rollback(id, body.data.reason ?? null));
  });
}
