import * as z from "zod";
import { COMMAND_NAMES } from "../domain/commands/command-names.ts";
import { commandReason } from "../domain/commands/body.ts";
import { nodeId, jobId } from "../domain/names/ids.ts";
import { JOB_STATUSES, STEP_STATUSES } from "../domain/job/job-status.ts";
import type { JobResource } from "../contract/job.ts";
import type { Api, ApiContext, ApiDeps } from "./deps.ts";
import { readJson } from "./json-body.ts";
import type { Places } from "./places.ts";
import { takesNoBody } from "./no-body.ts";
import { invalidRequest } from "./problem.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery, waitQuery } from "./query.ts";

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

export function routeJobs(app: Api, { master }: ApiDeps, waits: Places): void {
  app.get("/v1/jobs", async (c) => {
    const query = readQuery(c, jobsQuery);
    return c.json(await master.commands.jobs(pageOf(query), query));
  });
  app.get("/v1/jobs/:job", async (c) => {
    const { waitMs } = readQuery(c, waitQuery);
    const id = readPath(c, "job", jobId);
    const job = () => master.commands.job(id, waitMs);
    return jobAnswer(c, await (waitMs > 0 ? waits.during(c, job) : job()));
  });
  app.get("/v1/jobs/:job/steps", async (c) => {
    const query = readQuery(c, stepsQuery);
    return c.json(await master.commands.steps(readPath(c, "job", jobId), pageOf(query), query));
  });
  const acts = {
    cancel: (id: string) => master.commands.cancel(id),
    retry: (id: string) => master.commands.retry(id),
  };
  for (const [name, act] of Object.entries(acts)) {
    app.post(`/v1/jobs/:job/${name}`, async (c) => {
      readQuery(c, noQuery);
      const id = readPath(c, "job", jobId);
      await takesNoBody(c, name);
      return jobAnswer(c, await act(id));
    });
  }
  app.post("/v1/jobs/:job/rollback", async (c) => {
    readQuery(c, noQuery);
    const id = readPath(c, "job", jobId);
    const isEmpty = (await c.req.arrayBuffer()).byteLength === 0;
    const body = rollbackBody.safeParse(isEmpty ? {} : await readJson(c, MAX_TOKENS));
    if (!body.success) throw invalidRequest(body.error);
    return jobAnswer(c, await master.commands.rollback(id, body.data.reason ?? null));
  });
}
