import { afterExit } from "../../../src/domain/stitch/restart.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Exit } from "../protocol/adaptor.ts";
import type { StitchEvent } from "./kept-record.ts";

type EndedRun = {
  readonly record: StitchRecord;
  /** null only if the start was held up. */
  readonly spec: StitchSpec | null;
  readonly exit: Exit;
  /** Was the end intended, by a stop or because the worker leaves? */
  readonly isWanted: boolean;
  /** Does the node's lease hold? */
  readonly holdsId: boolean;
  readonly nowMs: number;
  /** From 0 to 1. */
  readonly random: number;
};

/** What happens after the end of a run. */
export type AfterExit = {
  readonly change: Partial<StitchRecord>;
  readonly event: StitchEvent;
  /** For the stitch's log. */
  readonly note?: string;
  /** The delay before the stitch is started again. */
  readonly restartInMs?: number;
  /** The stitch waits for what holds it up, or for the node's lease. */
  readonly waitsFor?: "what holds it up" | "lease";
};

const DISCONNECTED = "stopped: its node has lost Redis for as long as its lease; it starts again when the node is back";

/** Decides what happens after the end of a run: the end was intended, or the stitch waits, or the restart policy decides. */
export function decideAfterExit(run: EndedRun): AfterExit {
  const { exit, spec, isWanted, holdsId, nowMs } = run;
  const { code, signal } = exit;
  const ended: Partial<StitchRecord> = {
    health: "missing",
    pid: null,
    ...(code === null && signal === null ? {} : { lastExit: { code, signal, atMs: nowMs } }),
  };
  if (isWanted) return { change: { ...ended, state: "stopped" }, event: { type: "stitch.stopped" } };
  // Nothing has run, so the restart policy has nothing to count.
  if (exit.heldUp !== undefined)
    return {
      change: { ...ended, state: "backoff" },
      event: { type: "stitch.failed", data: { reason: exit.heldUp } },
      waitsFor: "what holds it up",
    };
  // The lease may be back before this exit is known.
  if (exit.withLease === true || (spec?.onDisconnect === "stop" && !holdsId))
    return {
      change: { ...ended, state: "stopped" },
      event: { type: "stitch.stopped", data: { reason: "disconnected" } },
      note: DISCONNECTED,
      waitsFor: "lease",
    };
  return byPolicy(run, ended);
}

function byPolicy({ record, spec, exit, nowMs, random }: EndedRun, ended: Partial<StitchRecord>): AfterExit {
  if (spec === null) throw new Error(`${record.id} has run, and its spec is not kept any more`);
  const { restarts, startedAtMs } = record;
  const neverRan = exit.neverRan === true;
  const ranMs = neverRan || startedAtMs === null ? null : nowMs - startedAtMs;
  // A program that ends well when it is told to has not run to its end.
  const next = afterExit(spec.restart, exit.code === 0 && exit.red === undefined, ranMs, restarts, random);
  const how = neverRan
    ? "it could not be started"
    : exit.red === undefined
      ? exitText(exit)
      : `it was stopped because its check was red: ${exit.red}`;
  const lastExit = ended.lastExit == null ? null : { code: exit.code, signal: exit.signal };
  switch (next.kind) {
    case "stopped":
      return {
        change: { ...ended, state: "stopped", finished: true },
        event: { type: "stitch.stopped", data: { lastExit } },
      };
    case "failed":
      return {
        change: { ...ended, state: "failed" },
        event: { type: "stitch.failed", data: { reason: next.reason, lastExit } },
        note: `failed: ${how}; ${next.reason}`,
      };
    case "again":
      return {
        change: { ...ended, state: "backoff", restarts: next.restarts },
        event: { type: "stitch.failed", data: { reason: how, lastExit, restartInMs: next.inMs } },
        note: `${how}; starting it again in ${next.inMs} ms (restart ${next.restarts} of ${spec.restart.maxRestarts})`,
        restartInMs: next.inMs,
      };
  }
}

export const exitText = ({ code, signal }: Exit): string =>
  signal !== null ? `it was ended by ${signal}` : code === null ? "it ended" : `it exited with code ${code}`;
