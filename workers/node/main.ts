import "./files/many-threads.ts";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { pause } from "../../src/bounded-wait.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { type Config, requireRedis, requireStateDir } from "../../src/config.ts";
import type { NodeFacts } from "../../src/domain/node/node.ts";
import { createLogger } from "../../src/logger.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { VERSION } from "../../src/version.ts";
import { startMaster } from "../master/main.ts";
import { mustAnswer } from "./files/bounded-files.ts";
import { loadModules } from "./adaptors/module.ts";
import { nodeIdOf } from "./membership/node-id.ts";
import { NodeWorker } from "./node-worker.ts";

const CONNECT_MS = 10_000;

/** Starts a node worker; with the role `master` a master worker beside it, in this process. */
export async function startNode(config: Config): Promise<RunningPart> {
  const redisUrl = requireRedis(config);
  const isNode = config.roles.includes("node");
  // Required only for a node, which keeps stitches.
  const stateDir = isNode ? requireStateDir(config) : "";
  if (isNode) await mustAnswer(join(stateDir, config.cluster));
  // The log is named after the node, so messages before its id is known are kept until then.
  const early: string[] = [];
  const { id, keep } = isNode
    ? nodeIdOf({ ...config, stateDir }, (message) => early.push(message))
    : { id: config.nodeId, keep: () => Promise.resolve() };
  const log = createLogger(config, id);
  for (const message of early) log.warn(message);
  const modules = await loadModules(config.modules);
  const worker = new NodeWorker({
    redisUrl,
    cluster: config.cluster,
    id,
    facts: factsOf(config, [...modules.keys()]),
    modules,
    stateDir,
    heartbeatMs: config.heartbeatMs,
    leaseMs: config.leaseMs,
    connectTimeoutMs: CONNECT_MS,
    nowMs: Date.now,
    random: Math.random,
    say: (message) => log.warn(message),
    note: (message) => log.info(message),
    onError: (error) => log.warn({ err: error }, "something failed; the node carries on"),
  });
  if (isNode) {
    await worker.start();
    await keep();
  }
  const hasMaster = config.roles.includes("master");
  const isAlone = isNode && !worker.isJoined;
  const onNoMaster = (error: unknown) => log.warn({ err: error }, WITHOUT);
  const onMasterError = (error: unknown) => log.warn({ err: error }, LATER);
  const startOwnMaster = () => startMaster(config, id);
  const master = !hasMaster
    ? null
    : isAlone
      ? startLater(startOwnMaster, onMasterError)
      : isNode
        ? await startOwnMaster().catch(orNoMaster(onNoMaster))
        : await startOwnMaster();
  // A node goes on without its Master; a Master alone ends.
  if (isNode) master?.ended.catch(onNoMaster);
  const stop = async () => {
    await Promise.all([isNode ? worker.stop() : Promise.resolve(), master?.stop()]);
  };
  return {
    ready: [
      ...(isNode ? [readyText(worker, id, config.cluster)] : []),
      ...(master === null || isAlone ? [] : [master.ready]),
    ].join("; "),
    stop,
    kill: () => {
      worker.kill();
      master?.kill();
    },
    ended: isNode ? worker.ended : (master?.ended ?? Promise.resolve()),
  };
}

const factsOf = (config: Config, modules: readonly string[]): NodeFacts => ({
  zones: [...config.zones],
  labels: { ...config.labels },
  capacity: { cpu: config.capacityCpu ?? cpus().length, memoryBytes: config.capacityMemoryBytes ?? totalmem() },
  modules: [...modules],
  version: VERSION,
});

const readyText = ({ isJoined, incarnation }: NodeWorker, id: string, cluster: string): string =>
  isJoined
    ? `node ${id} (incarnation ${incarnation}) is in the cluster "${cluster}"`
    : `node ${id} runs what its disk says; it joins the cluster "${cluster}" once Redis answers`;

const LATER = "the master part cannot start yet; it is tried again";
const WITHOUT = "the master part has ended; the node goes on without it";

const isWrongMode = (error: unknown): boolean => error instanceof RequestError && error.code === "wrong_mode";

/** A Master of another mode than the cluster's: the node starts without it. */
const orNoMaster =
  (onNoMaster: (error: unknown) => void) =>
  (error: unknown): null => {
    if (!isWrongMode(error)) throw error;
    onNoMaster(error);
    return null;
  };
const AGAIN_MS = 1000;

/** Starts a part as soon as it can start, while the rest of the process goes on. */
function startLater(start: () => Promise<RunningPart>, onError: (error: unknown) => void): RunningPart {
  let part: RunningPart | null = null;
  const stopped = new AbortController();
  const starting = async () => {
    while (!stopped.signal.aborted) {
      try {
        part = await start();
        if (stopped.signal.aborted) await part.stop();
        return await part.ended;
      } catch (error) {
        if (isWrongMode(error)) throw error;
        onError(error);
      }
      await pause(AGAIN_MS, stopped.signal);
    }
  };
  const ended = starting();
  ended.catch(onError);
  return {
    ready: "",
    stop: async () => {
      stopped.abort();
      await part?.stop();
    },
    kill: () => {
      stopped.abort();
      part?.kill();
    },
    ended,
  };
}
