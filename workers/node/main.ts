import "./files/many-threads.ts";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { pause } from "../../src/bounded-wait.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { type Config, requireRedis, requireStateDir } from "../../src/config.ts";
import { seldom } from "../../src/error-log.ts";
import type { NodeFacts } from "../../src/domain/node/node.ts";
import { loadOwnMaster } from "../../src/load-own-master.ts";
import { createLogger } from "../../src/logger.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { VERSION } from "../../src/version.ts";
import { startMaster } from "../master/main.ts";
import { mustAnswer } from "./files/bounded-files.ts";
import { loadModules } from "./adaptors/module.ts";
import { nodeIdOf } from "./membership/node-id.ts";
import { NodeWorker } from "./node-worker.ts";

const CONNECT_MS = 10_000;
/** How often the same error is logged while Redis stays away. */
const SAME_ERROR_MS = 10_000;

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
  // Before the node starts: a module that cannot be loaded must not end a node that runs stitches.
  if (config.roles.includes("master")) await loadOwnMaster(config.masterModule);
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
    onError: seldom(SAME_ERROR_MS, (error) => log.warn({ err: error }, "something failed; the node carries on")),
  });
  if (isNode) {
    await worker.start();
    await keep();
  }
  const hasMaster = config.roles.includes("master");
  const isAlone = isNode && !worker.isJoined;
  const startOwnMaster = () => startMaster(config, id);
  // A node goes on without its Master until that can start; a Master alone ends.
  const master = !hasMaster
    ? null
    : isNode
      ? await keepMaster(startOwnMaster, !isAlone, (error, text) => log.warn({ err: error }, text))
      : await startOwnMaster();
  return {
    ready: [
      ...(isNode ? [readyText(worker, id, config.cluster)] : []),
      ...(master === null || master.ready === "" ? [] : [master.ready]),
    ].join("; "),
    works: async () => {
      if (isNode && !worker.isAlive) throw new Error("the node is not in the cluster");
      if (!isNode) await master?.works();
    },
    stop: async () => {
      await Promise.all([isNode ? worker.stop() : null, master?.stop()]);
    },
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

const AGAIN_MS = 1000;
/** How soon a Master of a mode that the cluster does not have is tried again: the mode may be changed back. */
const WRONG_MODE_AGAIN_MS = 5000;

const isWrongMode = (error: unknown): boolean => error instanceof RequestError && error.code === "wrong_mode";

/**
 * Keeps a Master beside a node: starts it, and starts it again if it cannot start, or if the mode of the cluster was changed.
 * Resolves after the first try.
 * @param atOnce false: nothing is awaited, because Redis does not answer.
 * @param onError called for each reason once, until the Master has started.
 */
async function keepMaster(
  start: () => Promise<RunningPart>,
  atOnce: boolean,
  onError: (error: unknown, text: string) => void,
): Promise<RunningPart> {
  let part: RunningPart | null = null;
  let said = "";
  const stopped = new AbortController();
  const tried = Promise.withResolvers<void>();
  const report = (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    if (reason !== said) onError(error, "the node goes on without its Master; it is tried again");
    said = reason;
  };
  const keep = async () => {
    while (!stopped.signal.aborted) {
      let againMs = AGAIN_MS;
      try {
        part = await start();
        said = "";
        tried.resolve();
        if (stopped.signal.aborted) await part.stop();
        await part.ended;
        return;
      } catch (error) {
        part = null;
        report(error);
        if (isWrongMode(error)) againMs = WRONG_MODE_AGAIN_MS;
      }
      tried.resolve();
      await pause(againMs, stopped.signal);
    }
  };
  const ended = keep();
  if (atOnce) await tried.promise;
  // Set by `keep`, which the compiler cannot see.
  const now = () => part;
  return {
    ready: now()?.ready ?? "",
    works: async () => {
      await now()?.works();
    },
    stop: async () => {
      stopped.abort();
      await now()?.stop();
    },
    kill: () => {
      stopped.abort();
      now()?.kill();
    },
    ended,
  };
}
