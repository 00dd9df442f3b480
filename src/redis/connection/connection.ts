import { Cluster, type ClusterOptions, Redis, type RedisOptions } from "ioredis";
import { RequestError } from "../../domain/errors.ts";
import { type HostAndPort, parseRedisUrl, type RedisAddress } from "../../redis-url.ts";
import type { RedisClient } from "./client.ts";
import { installScripts } from "./script.ts";
import { PrimaryConnector } from "./sentinel-connector.ts";
import { ServerWatch } from "./server-watch.ts";
import { type SetupRefused, setupRefused } from "./setup-refused.ts";
import { pauseBetweenSubscribers } from "./subscriber-pauses.ts";

/**
 * - `shared`: everything that does not block; commands issued together go out together (auto-pipelining, but not in a
 *   Redis Cluster). Fails fast.
 * - `direct`: as `shared`, but each command goes out by itself, at once. For what is a batch in itself: of the automatic
 *   pipelines one is under way at a time, and the next waits until all of it is answered.
 * - `blocking`: waits for entries (`XREAD BLOCK`, BullMQ's worker), retries for ever.
 * - `subscriber`: pub/sub.
 */
export type ConnectionRole = "shared" | "direct" | "blocking" | "subscriber";

/** Thrown where a Redis URL is not one of the forms, or Redis is not fit to hold a cluster. Not worth a retry. */
export class RedisRefused extends Error {
  override readonly name = "RedisRefused";
}

/** Without `replyMapping`, whose type ioredis would carry into every client's. */
type ConnectionOptions = Omit<RedisOptions, "replyMapping">;

const RETRY_CAP_MS = 2000;
/** Longest a connection may stay silent with a command under way: a half-open one would otherwise park a worker for good. */
const SOCKET_TIMEOUT_MS = 15_000;
const SENTINEL_ANSWER_MS = 2000;

function optionsFor(role: ConnectionRole): ConnectionOptions {
  return {
    // Reconnect within 2 s of Redis coming back; the default backs off to 5 s and more.
    retryStrategy: (times) => Math.min(50 * times, RETRY_CAP_MS),
    socketTimeout: SOCKET_TIMEOUT_MS,
    connectTimeout: 5000,
    keepAlive: 10_000,
    lazyConnect: true,
    disableClientInfo: true,
    ...(role === "shared" || role === "direct"
      ? {
          enableAutoPipelining: role === "shared",
          enableOfflineQueue: false,
          autoResendUnfulfilledCommands: false,
          // Whatever was under way fails as soon as its connection closes. With 1, ioredis forgets it without a word where
          // the next attempt to connect succeeds, and an automatic pipeline that waits for it holds back all that follows.
          maxRetriesPerRequest: 0,
        }
      : { maxRetriesPerRequest: null }),
  };
}

/**
 * Opens (lazily: nothing is sent before `connect()` or the first command) a connection in the role it is for. It has an
 * error listener already; it reconnects until `disconnect()`, also where it is refused then: the users of a Redis may be
 * loaded anew at that moment, and a worker that ended would end its stitches.
 *
 * @param url as `parseRedisUrl` reads it.
 * @param watch of the connections to this Redis that belong together: what one hears of a failover holds for all.
 * @throws RedisRefused where it is none.
 */
export function openRedis(
  url: string,
  role: ConnectionRole,
  onError: (error: Error) => void,
  extra: ConnectionOptions = {},
  watch = new ServerWatch(),
): RedisClient {
  const address = parseRedisUrl(url);
  if ("wrong" in address) throw new RedisRefused(`REDIS_URL: ${address.wrong}`);
  const { tls, auth } = address;
  const options = { ...optionsFor(role), ...auth, ...(tls ? { tls: {} } : {}), ...extra };
  const client =
    address.kind === "cluster"
      ? openCluster(address.hosts, options)
      : watched(openOne(address, { ...options, reconnectOnError: lookout(address, options, watch) }), watch);
  client.on("error", (error) => {
    if (!connecting.has(client)) onError(setupRefused(error) ?? error);
  });
  installScripts(client);
  return client;
}

type OneAddress = Exclude<RedisAddress, { kind: "cluster" }>;

/** Sees every error reply, of a duplicate's too. Never asks ioredis to reconnect: the watch does that, for all at once. */
function lookout(address: OneAddress, options: ConnectionOptions, watch: ServerWatch): (error: Error) => false {
  const open = (): Redis => {
    const probe = openOne(address, { ...options, ...optionsFor("direct"), retryStrategy: () => null });
    // What it cannot do is what the watch asks of it.
    probe.on("error", () => undefined);
    return refusesOtherDatabase(probe);
  };
  return (error) => {
    watch.onErrorReply(error, open);
    return false;
  };
}

/** A connection whose duplicates (BullMQ makes one) are as it is. */
function watched(client: Redis, watch: ServerWatch): Redis {
  watch.add(client);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (override) => watched(duplicate(override), watch);
  return refusesOtherDatabase(client);
}

/**
 * ioredis tells of a SELECT that is refused and works on, in database 0, which may be another cluster's. Here the
 * connection is none then: it is closed, and tried again with the usual waits.
 */
function refusesOtherDatabase(client: Redis): Redis {
  const select: (db: number) => Promise<"OK"> = client.select.bind(client);
  const selectOrClose = (db: number): Promise<"OK"> =>
    select(db).catch((error: Error) => {
      // NOAUTH: HELLO has been refused before, which says more. What is no reply is a connection that broke.
      if (error.name !== "ReplyError" || error.message.startsWith("NOAUTH")) throw error;
      client.recoverFromFatalError(error, error, {});
      // Of this attempt nothing goes on.
      return new Promise<never>(() => undefined);
    });
  Object.assign(client, { select: selectOrClose });
  return client;
}

/** Those that `connectRedis` waits for: each try that fails is its own to tell of, in the end. */
const connecting = new WeakSet<RedisClient>();

function openOne(address: OneAddress, options: ConnectionOptions): Redis {
  if (address.kind === "unix") return new Redis({ ...options, path: address.path });
  if (address.kind === "single") return new Redis({ ...options, ...address.host, db: address.db });
  return new Redis({
    ...options,
    sentinels: address.hosts,
    name: address.primary,
    // Without these, ioredis leaves out TLS without a word.
    ...(address.tls ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
    Connector: PrimaryConnector,
    // Without it a client can hang on to the old master after a failover until its socket times out.
    failoverDetector: true,
    // A Sentinel that hangs takes connections and answers nothing: the next one is asked then.
    sentinelCommandTimeout: SENTINEL_ANSWER_MS,
    sentinelRetryStrategy: (times) => Math.min(50 * times, RETRY_CAP_MS),
  });
}

function openCluster(hosts: HostAndPort[], options: ConnectionOptions): Cluster {
  // No automatic pipelines: of one whose commands are not all redirected alike, as while a slot moves, ioredis hands the
  // redirections (ASK, MOVED) to the callers instead of following them. Without, each command follows its own.
  const { lazyConnect: _, enableOfflineQueue, enableAutoPipelining: __, retryStrategy: ___, ...redisOptions } = options;
  const cluster: Omit<ClusterOptions, "redisOptions"> & { redisOptions: ConnectionOptions } = {
    redisOptions,
    lazyConnect: true,
    ...(enableOfflineQueue === undefined ? {} : { enableOfflineQueue }),
    clusterRetryStrategy: (times) => Math.min(100 * times, RETRY_CAP_MS),
  };
  return withPauses(new Cluster(hosts, cluster));
}

/** A Cluster whose duplicates (BullMQ makes one) are as it is. */
function withPauses(client: Cluster): Cluster {
  pauseBetweenSubscribers(client);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (...given) => withPauses(duplicate(...given));
  return client;
}

/**
 * Connects and resolves when commands can be sent.
 * @throws SetupRefused as soon as Redis refuses the user, the password or the database; an error with the last reason and
 *   the next step once `timeoutMs` is up. The client is left disconnected then.
 */
export async function connectRedis(client: RedisClient, timeoutMs: number): Promise<void> {
  let last: unknown = null;
  let refuse: (reason: SetupRefused) => void = () => undefined;
  let onReady: () => void = () => undefined;
  const note = (error: unknown) => {
    last = error;
    const refused = setupRefused(error);
    if (refused !== null) refuse(refused);
  };
  connecting.add(client);
  client.on("error", note);
  let timer: NodeJS.Timeout | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      refuse = reject;
      timer = setTimeout(() => reject(noAnswer(last, timeoutMs)), timeoutMs);
      onReady = () => void refuseUselessPassword(client).then(resolve, note);
      client.on("ready", onReady);
      if (client.status === "ready") onReady();
      else if (client.status === "wait") client.connect().then(undefined, note);
    });
  } catch (error) {
    client.disconnect();
    throw error;
  } finally {
    clearTimeout(timer);
    client.off("error", note);
    client.off("ready", onReady);
    connecting.delete(client);
  }
}

/** HELLO takes any password for a user that has none, and AUTH with a user too. AUTH with the password alone does not. */
async function refuseUselessPassword(client: RedisClient): Promise<void> {
  const options: ConnectionOptions = client instanceof Cluster ? (client.options.redisOptions ?? {}) : client.options;
  const { username, password } = options;
  if (password === undefined || password === null || (username ?? "default") !== "default") return;
  try {
    await client.call("AUTH", password);
  } catch (error) {
    const refused = setupRefused(error);
    if (refused !== null) throw refused;
    // A Redis that has AUTH under another name cannot be asked; HELLO has let this process in.
    if (!(error instanceof Error && error.name === "ReplyError")) throw error;
  }
}

function noAnswer(cause: unknown, timeoutMs: number): Error {
  const reason = cause instanceof Error ? cause.message : `no answer within ${timeoutMs} ms`;
  return new Error(`Redis does not answer at REDIS_URL (${reason}); check that it runs and the URL`, { cause });
}

/** Is it spread over several masters? Then a script's keys must share a slot, and commands sent together keep no order. */
export const isCluster = (client: RedisClient): boolean => client.isCluster;

/**
 * Refuses a Redis that may throw keys away under memory pressure: it would lose accepted commands without a word.
 * @throws RedisRefused naming the setting.
 */
export async function refuseEviction(client: RedisClient): Promise<void> {
  const policy = /^maxmemory_policy:(.+?)\r?$/m.exec(await client.info("memory"))?.[1];
  if (policy !== undefined && policy !== "noeviction")
    throw new RedisRefused(
      `Redis has maxmemory-policy ${policy}: it would drop jobs and node state when memory is short. ` +
        "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf).",
    );
}

/** Redis's own refusals, by how a reply begins, that mean: not now. */
const NOT_NOW = /^(LOADING|READONLY|OOM|MISCONF|CLUSTERDOWN|MASTERDOWN|BUSY|NOREPLICAS|UNBLOCKED)\b/;
const CONNECTION =
  /Connection is closed|aborted due to connection close|Stream isn't writeable|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOENT|ENOTFOUND|EAI_AGAIN|Command timed out|Socket timeout|Failed to refresh slots|All sentinels are unreachable|max retries per request|max number of clients|Cluster isn't ready|No connection/i;

/** What a Redis Cluster answers while it moves a slot, where that cannot be followed to the other side: not now. */
const SLOT_MOVING = /^(ASK|MOVED|TRYAGAIN)\b|non local key|Too many Cluster redirections/;

/** Does a Redis Cluster move the slot? Nothing was carried out; it can be again when the slot is closed. */
export const isSlotMoving = (error: unknown): boolean => error instanceof Error && SLOT_MOVING.test(error.message);

/** What of this error, or of one that caused it, says that Redis is away, full or read-only; null where nothing does. */
function whyUnavailable(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const refused = setupRefused(error);
  if (refused !== null) return refused.message;
  const { message, cause } = error;
  const isUnavailable = [SLOT_MOVING, NOT_NOW, CONNECTION].some((known) => known.test(message));
  return isUnavailable ? message : whyUnavailable(cause);
}

/** Is this error Redis being away, full, or read-only, rather than a mistake of ours? */
export const isRedisUnavailable = (error: unknown): error is Error => whyUnavailable(error) !== null;

/** The request error for a Redis that is away, else the error itself. */
export function asRequestError(error: unknown): unknown {
  const reason = whyUnavailable(error);
  if (reason === null) return error;
  const [code = ""] = NOT_NOW.exec(reason) ?? [];
  const refused = setupRefused(error);
  const why =
    refused !== null
      ? `${refused.message}.`
      : SLOT_MOVING.test(reason)
        ? "The Redis Cluster is moving a slot that this needs; it can be done when that has ended."
        : code === "OOM"
          ? "Redis is out of memory (maxmemory); nothing can be accepted until some is free."
          : ["READONLY", "MISCONF", "NOREPLICAS"].includes(code)
            ? `Redis takes no writes (${code}); see its log.`
            : code !== ""
              ? `Redis answers, but not this for now (${code}); see its log.`
              : "Redis does not answer; check that it runs and REDIS_URL.";
  return new RequestError(
    "redis_unavailable",
    `${why} The request can be sent again with the same Idempotency-Key.`,
    {},
    { cause: error },
  );
}
