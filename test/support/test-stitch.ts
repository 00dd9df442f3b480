import type { StitchSpec } from "../../src/domain/stitch/spec.ts";
import { stitchRecord, type StitchRecord, toldOf } from "../../src/domain/stitch/stitch.ts";
import { ENDS, stored } from "./test-spec.ts";

/** The record of a stopped stitch, as its node would have written it. */
export const testStitch = (
  id: string,
  { spec = ENDS, ...differs }: Partial<StitchRecord> & { readonly spec?: StitchSpec } = {},
): StitchRecord =>
  stitchRecord.parse({
    id,
    group: "shop.orders.1",
    specHash: stored(spec).specHash,
    ...toldOf(spec),
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
