import type { JobRecord, Task } from "../../domain/job/job.ts";
import type { StoredTemplate } from "../../redis/stitch/group-template.ts";

/**
 * The template of each full group from a job that came with a spec: a clone or a scale only repeats a template. A stitch
 * placed on a named node stays there by default; that holds for this stitch only, unless the client set `reschedule`.
 */
export function templatesIn({ asked }: JobRecord, tasks: readonly Task[]): Map<string, StoredTemplate> {
  const templates = new Map<string, StoredTemplate>();
  if (asked === null) return templates;
  const reschedule = asked.reschedule ?? true;
  for (const step of tasks.flatMap(({ steps }) => steps)) {
    if (step.action !== "create") continue;
    const { specHash, placement = { strategy: "spread" } } = step;
    templates.set(step.group, { specHash, reschedule, placement });
  }
  return templates;
}
