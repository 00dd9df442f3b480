import { randomUUID } from "node:crypto";
import { fullId } from "../../src/domain/names/ids.ts";
import type { Dispatch } from "../../src/domain/job/job.ts";
import type { NodeFacts } from "../../src/domain/node/node.ts";
import type { NodePorts } from "../../src/master/ports.ts";
import { Launcher } from "./adaptors/launcher.ts";
import { moduleAdaptor, type StitchModule } from "./adaptors/module.ts";
import { processAdaptor } from "./adaptors/process.ts";
import type { Membership, NodeContents } from "./membership/membership.ts";
import { OutputPace } from "./logs/output-pace.ts";
import type { MessageDelivery } from "./messages/message-delivery.ts";
import { EscapedProcesses } from "./processes/escaped-processes.ts";
import { Handles } from "./processes/handles.ts";
import { Launches } from "./processes/launches.ts";
import { Orphans } from "./processes/orphans.ts";
import type { Watchdog } from "./processes/watchdog.ts";
import type { Told } from "./protocol/adaptor.ts";
import { Outbox, ROOM_MS } from "./sending/outbox.ts";
import type { SendTo } from "./sending/recipients.ts";
import { Measurements } from "./stitches/measurements.ts";
import { ObeyedTombstones } from "./stitches/obeyed-tombstones.ts";
import { Publisher } from "./stitches/publisher.ts";
import { Specs } from "./stitches/specs.ts";
import type { StitchDisk } from "./stitches/stitch-disk.ts";
import { StitchHost } from "./stitches/stitch-host.ts";
import { StitchRegistry } from "./stitches/stitch-registry.ts";

type PartsOptions = {
  readonly node: string;
  readonly facts: NodeFacts;
  readonly modules: ReadonlyMap<string, StitchModule>;
  readonly master: NodePorts;
  readonly watchdog: Watchdog;
  readonly membership: Pick<
    Membership,
    "session" | "dir" | "formerSessions" | "incarnation" | "eligibility" | "holdsId"
  >;
  /** null until the worker reads its inbox. */
  readonly delivery: () => MessageDelivery | null;
  /** The last inbox entry that this run of the worker, or an earlier one, took. */
  readonly lastMail: () => string;
  /** Redis's time, as far as it is known. */
  readonly nowMs: () => number;
  readonly steadyNowMs: () => number;
  readonly random: () => number;
  readonly say: (message: string) => void;
  readonly onError: (error: unknown) => void;
};

/** The parts of a worker before Redis has been asked for anything. */
export type Parts = NodeContents & {
  readonly disk: StitchDisk;
  readonly outbox: Outbox;
  readonly orphans: Orphans;
  readonly measurements: Measurements;
  readonly handles: Handles;
  readonly launcher: Launcher;
  /** Tasks that an earlier run of the worker took and did not answer. */
  readonly tasks: readonly Dispatch[];
};

/**
 * Reads the disk, and ends the processes that earlier runs of
 * the worker left. Asks Redis for nothing, and starts no stitch.
 *
 * The function is long because it is a list: it makes every part once, and shows what each part is given.
 */
export async function openParts(disk: StitchDisk, options: PartsOptions): Promise<Parts> {
  const { node, master, membership, nowMs, steadyNowMs, onError } = options;
  const { publishing, orders, routing } = master;
  const { session, dir } = membership;
  const incarnation = () => membership.incarnation;
  const holdsId = () => membership.holdsId;
  const eligibility = () => membership.eligibility;
  const kept = disk.load();
  const registry = new StitchRegistry();
  const specs = new Specs({ dir, orders, publishing, steadyNowMs, onError });
  specs.load();
  const orphans = new Orphans({
    sessions: membership.formerSessions,
    launches: kept.launches,
    spare: () => false,
    say: options.say,
  });
  const [launcher] = await Promise.all([Launcher.look(), orphans.end()]);
  const measurements = new Measurements({ publishing, session, disk, incarnation, holdsId, steadyNowMs });
  const publisher = new Publisher({
    publishing,
    status: () => registry.status(eligibility()),
    receives: (group) => registry.receivers(group).length > 0,
    changeOf: (stitch) => registry.changeOf(stitch),
    holdsId,
    onError,
  });
  const outbox = new Outbox({
    routing,
    node,
    isHere: (stitch) => registry.find(stitch)?.record.movedFrom === null,
    nowMs,
    onError,
  });
  const handles = new Handles({ logsToOpen: () => registry.logsToOpen() });
  const process = processAdaptor({
    watchdog: options.watchdog,
    escaped: new EscapedProcesses(session, onError),
    launches: new Launches(disk, session),
    launcher,
    handles,
    orphans,
    pace: new OutputPace(steadyNowMs),
    nowMs,
  });
  const host: StitchHost = new StitchHost({
    node,
    session,
    registry,
    facts: options.facts,
    eligibility,
    lastMail: options.lastMail,
    disk,
    specs,
    adaptors: { process, module: moduleAdaptor(options.modules) },
    nowMs,
    random: options.random,
    holdsId,
    heldUp: (stitch) => tombstones.heldUp(stitch),
    send: sendFrom(node, outbox, registry, nowMs),
    reply: async (stitch, ...reply) => options.delivery()?.reply(stitch, ...reply),
    onRoom: (stitch) => options.delivery()?.wake(stitch),
    onStitch: (stitch) => options.delivery()?.changed(stitch),
    publish: (changes, events) => publisher.publish(changes, events),
    onError,
  });
  const tombstones = new ObeyedTombstones({ orders, node, host, registry, steadyNowMs, onError });
  host.merge(kept);
  return {
    disk,
    registry,
    host,
    publisher,
    outbox,
    specs,
    tombstones,
    orphans,
    measurements,
    handles,
    launcher,
    tasks: kept.tasks,
  };
}

/** Sends the messages of a node's stitches. If an inbox is full, the sender's log says so. */
const sendFrom =
  (node: string, outbox: Outbox, registry: StitchRegistry, nowMs: () => number) =>
  (stitch: string, to: SendTo, channel: string, data: string, ref: number | null, told: Told): Promise<void> => {
    const from = fullId(node, stitch);
    const message = { id: randomUUID(), from, channel, data, ref, re: null, receipt: null, hops: 0 };
    const onFull = () => {
      const text = `the inbox of ${"stitch" in to ? to.stitch : to.group} is full: what it sends there waits ${ROOM_MS} ms for room, then it is a dead letter`;
      void registry.log(stitch)?.write("system", text, nowMs());
    };
    return outbox.send(to, { ...message, sentAtMs: nowMs() }, { speaker: { ...told, onFull } });
  };
