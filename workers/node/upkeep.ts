import type { Publishing } from "../../src/master/ports.ts";
import type { Membership } from "./membership/membership.ts";
import type { Parts } from "./node-parts.ts";

/** Deletes stitches removed long enough ago, and specs that no stitch has any more. May take long: the disk may be slow. */
export async function prune(
  { host, registry, publisher, specs }: Parts,
  publishing: Pick<Publishing, "forget">,
): Promise<void> {
  const ids = await host.prune();
  publisher.forget(ids);
  await publishing.forget(ids);
  await specs.offer(registry.specHashes());
  await specs.prune(() => registry.specHashes());
}

/** Ends processes of earlier runs of the worker that could not be ended so far. Then starts the stitches that they held up. */
export async function endOrphans(parts: Parts, membership: Pick<Membership, "forgetSessions">): Promise<void> {
  if (!(await parts.orphans.retry())) return;
  forgetEndedLives(parts, membership);
  parts.host.resumeHeldUp();
}

/** Forgets earlier runs of the worker that left no processes: the next run need not look for them. */
export function forgetEndedLives(
  { orphans, disk }: Pick<Parts, "orphans" | "disk">,
  membership: Pick<Membership, "forgetSessions">,
): void {
  membership.forgetSessions(orphans.sessions);
  for (const launch of orphans.ended) disk.forgetLaunch(launch);
}
