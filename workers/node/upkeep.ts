import type { Publishing } from "../../src/master/ports.ts";
import type { Membership } from "./membership/membership.ts";
import type { Parts } from "./parts.ts";

/** Forgets what was removed long enough ago, and the specs that nothing runs any more. May take long: the disk may be slow. */
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

/** Ends processes of former lives that could not be ended so far; what they held up is started then. */
export async function endOrphans(parts: Parts, membership: Pick<Membership, "forgetSessions">): Promise<void> {
  if (!(await parts.orphans.retry())) return;
  forgetEndedLives(parts, membership);
  parts.host.resumeHeldUp();
}

/** Forgets former lives that have left nothing: the next life need not look for them. */
export function forgetEndedLives(
  { orphans, disk }: Pick<Parts, "orphans" | "disk">,
  membership: Pick<Membership, "forgetSessions">,
): void {
  membership.forgetSessions(orphans.sessions);
  for (const launch of orphans.ended) disk.forgetLaunch(launch);
}
