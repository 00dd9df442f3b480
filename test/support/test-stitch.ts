import { stitchRecord, type StitchRecord } from "../../src/domain/stitch.ts";

/** The record of a stopped stitch, as its node would have written it. */
export const testStitch = (id: string, differs: Partial<StitchRecord> = {}): StitchRecord =>
  stitchRecord.parse({
    id,
    group: "shop.orders.1",
    spec: { adaptor: "process", command: ["true"], protocol: "none" },
    desired: "stopped",
    state: "stopped",
    health: "green",
    revision: "1.0",
    born: "1.0",
    outcome: null,
    restarts: 0,
    pid: null,
    startedAtMs: null,
    lastExit: null,
    observedAtMs: 0,
    ...differs,
  });
