import { stitchSpec } from "../../src/domain/spec.ts";
import type { StitchRecord } from "../../src/domain/stitch.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import { publishStitches } from "../../src/redis/stitch-records.ts";

/** A stitch in Redis as its node would have published it; it does not run. */
export async function publishTestStitch(
  { redis, keys }: Pick<OpenMaster, "redis" | "keys">,
  node: string,
  id: string,
  group = "shop.orders.1",
): Promise<void> {
  const record: StitchRecord = {
    id,
    group,
    spec: stitchSpec.parse({ adaptor: "process", command: ["true"], protocol: "none" }),
    placement: { strategy: "spread" },
    movedFrom: null,
    desired: "stopped",
    state: "stopped",
    health: "green",
    revision: "1.0",
    born: "1.0",
    outcome: null,
    finished: false,
    restarts: 0,
    pid: null,
    startedAtMs: null,
    lastExit: null,
    observedAtMs: Date.now(),
    mailAfter: null,
  };
  const status = {
    reserved: { cpu: 0, memoryBytes: 0 },
    stitchCount: 1,
    states: { stopped: 1 },
    eligibility: "eligible" as const,
  };
  await publishStitches(redis, keys, node, [{ kind: "set", record, isNew: true }], status, () => true);
}
