import type { Adaptor } from "../../workers/node/protocol/adaptor.ts";
import type { StitchHost } from "../../workers/node/stitches/stitch-host.ts";
import { NAMED_SPECS } from "./test-spec.ts";

type HostOptions = ConstructorParameters<typeof StitchHost>[0];
/** What a test says itself. */
type Own = "registry" | "disk" | "publish" | "onError";

/** The options of a host on the node `n1`, alone with one adaptor: it holds its id, and nothing is sent or answered. */
export const hostOptions = (adaptor: Adaptor, own: Pick<HostOptions, Own> & Partial<HostOptions>): HostOptions => ({
  node: "n1",
  session: "session",
  facts: { zones: [], labels: {}, capacity: { cpu: 4, memoryBytes: 400 }, modules: [], version: "1" },
  specs: NAMED_SPECS,
  adaptors: { process: adaptor, module: adaptor },
  nowMs: Date.now,
  random: () => 0.5,
  holdsId: () => true,
  heldUp: () => null,
  send: () => Promise.reject(new Error("nothing is sent here")),
  reply: () => Promise.reject(new Error("nothing is answered here")),
  onRoom: () => undefined,
  eligibility: () => "eligible",
  lastMail: () => "0-0",
  onStitch: () => undefined,
  ...own,
});
