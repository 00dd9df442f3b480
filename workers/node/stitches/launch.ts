import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import { errorText } from "../../../src/error-text.ts";
import { NoAnswer } from "../files/bounded-files.ts";
import type { StitchLog } from "../logs/stitch-log.ts";
import { type Adaptor, neverStarted, type StartContext, type StitchInstance } from "../protocol/adaptor.ts";

export type LaunchOptions = {
  readonly node: string;
  readonly session: string;
  readonly adaptors: { readonly [Kind in StitchSpec["adaptor"]]: Adaptor };
  /** Sends a message from the stitch with this id (see `StartContext.send`). */
  readonly send: (stitch: string, ...message: Parameters<StartContext["send"]>) => Promise<void>;
  /** Sends a reply from the stitch with this id (see `StartContext.reply`). */
  readonly reply: (stitch: string, ...reply: Parameters<StartContext["reply"]>) => Promise<void>;
  /** Called when the stitch with this id can take messages again (see `StartContext.onRoom`). */
  readonly onRoom: (stitch: string) => void;
  /** Does the node hold its lease, as far as it knows without asking Redis? */
  readonly holdsId: () => boolean;
  /** Why the stitch with this id must not be started now; null if it may. */
  readonly heldUp: (stitch: string) => string | null;
  readonly nowMs: () => number;
};

type Launched = {
  readonly id: string;
  readonly group: string;
  readonly spec: StitchSpec;
  /** The data folder, or the reason why there is none. */
  readonly dataDir: PromiseSettledResult<string>;
  readonly log: StitchLog;
  readonly onHealth: StartContext["onHealth"];
};

/** Launches a stitch. Throws nothing: if the launch fails, the result is an instance that never started. */
export function launch(options: LaunchOptions, { id, group, spec, dataDir, log, onHealth }: Launched): StitchInstance {
  const { node, session, send, reply, onRoom, holdsId, heldUp, nowMs } = options;
  const reason = heldUp(id);
  if (reason !== null) return neverStarted(reason, { heldUp: reason });
  if (spec.onDisconnect === "stop" && !holdsId())
    return neverStarted("the node has no contact with Redis, and this stitch must not run without");
  try {
    return options.adaptors[spec.adaptor]({
      node,
      id,
      group,
      spec,
      dataDir: valueOf(dataDir),
      session,
      log: (source, line, continued) => log.write(source, line, nowMs(), continued),
      send: (...message) => send(id, ...message),
      reply: (...its) => reply(id, ...its),
      onRoom: () => onRoom(id),
      onHealth,
    });
  } catch (error) {
    const text = errorText(error);
    return neverStarted(text, error instanceof NoAnswer ? { heldUp: text } : {});
  }
}

function valueOf<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === "rejected") throw settled.reason;
  return settled.value;
}
