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
 * - `shared`: for every command that does not block. Commands that are issued together are sent together (auto-pipelining,
 *   but not in a Redis Cluster). Fails fast.
 * - `direct`: as `shared`, but each command is sent by itself, at once. For commands that are a batch in themselves: only
 *   one automatic pipeline is under way at a time, and the next one waits until all of it is answered.
 * - `blocking`: waits for entries (`XREAD BLOCK`, BullMQ's worker), retries for ever.
 * - `subscriber`: pub/sub.
 */
export type ConnectionRole = "shared" | "direct" | "blocking" | "subscriber";

/** Thrown if a Redis URL has none of the known forms, or if Redis is not fit to hold a cluster. Not worth a retry. */
export class RedisRefused extends Error {
  override readonly name = "RedisRefused";
}

/** Without `replyMapping`: ioredis would carry its type into the type of every client. */
type ConnectionOptions = Omit<RedisOptions, "replyMapping">;

const RETRY_CAP_MS = 2000;
/**
 * Longest time that a connection may stay silent with a command under way. Otherwise a half-open connection would block a
 * worker for ever.
 */
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
          // A command that is under way fails as soon as its connection closes. With 1, ioredis drops the command silently
          // if the next attempt to connect succeeds, and an automatic pipeline that waits for it blocks all later commands.
          maxRetriesPerRequest: 0,
        }
      : { maxRetriesPerRequest: null }),
  };
}

/**
 * Opens a connection in a role. Lazily: nothing is sent before `connect()` or the first command. The connection has an
 * error listener already. It reconnects until `disconnect()`, even if Redis refuses it then: Redis may be reloading its
 * users at that moment, and a worker that ended would end its stitches.
 *
 * @param url as `parseRedisUrl` reads it.
 * @param watch shared by the connections to this Redis that belong together: what one learns of a failover is true for all.
 * @throws RedisRefused if the URL has none of the known forms.
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

/** Sees every error reply, also those of a duplicate. Never asks ioredis to reconnect: the watch does that, for all at once. */
function lookout(address: OneAddress, options: ConnectionOptions, watch: ServerWatch): (error: Error) => false {
  const open = (): Redis => {
    const probe = openOne(address, { ...options, ...optionsFor("direct"), retryStrategy: () => null });
    // No report here: the watch's own calls on the probe reject with the error.
    probe.on("error", () => undefined);
    return refusesOtherDatabase(probe);
  };
  return (error) => {
    watch.onErrorReply(error, open);
    return false;
  };
}

/** A connection whose duplicates (BullMQ makes one) are watched, too. */
function watched(client: Redis, watch: ServerWatch): Redis {
  watch.add(client);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (override) => watched(duplicate(override), watch);
  return refusesOtherDatabase(client);
}

/**
 * When Redis refuses SELECT, ioredis reports that and continues in database 0, which may belong to another cluster. Here
 * the connection is closed instead, and tried again with the usual waits.
 */
function refusesOtherDatabase(client: Redis): Redis {
  const select: (db: number) => Promise<"OK"> = client.select.bind(client);
  const selectOrClose = (db: number): Promise<"OK"> =>
    select(db).catch((error: Error) => {
      // NOAUTH: HELLO was refused before, and its error says more. An error that is no reply is a broken connection.
      if (error.name !== "ReplyError" || error.message.startsWith("NOAUTH")) throw error;
      client.recoverFromFatalError(error, error, {});
      // Nothing of this attempt continues.
      return new Promise<never>(() => undefined);
    });
  Object.assign(client, { select: selectOrClose });
  return client;
}

/** The clients that `connectRedis` waits for: it reports their failed attempts itself, at the end. */
const connecting = new WeakSet<RedisClient>();

function openOne(address: OneAddress, options: ConnectionOptions): Redis {
  if (address.kind === "unix") return new Redis({ ...options, path: address.path });
  if (address.kind === "single") return new Redis({ ...options, ...address.host, db: address.db });
  return new Redis({
    ...options,
    sentinels: address.hosts,
    name: address.primary,
    // Without these, ioredis silently leaves out TLS.
    ...(address.tls ? { enableTLSForSentinelMode: true, sentinelTLS: {} } : {}),
    Connector: PrimaryConnector,
    // Without it, a client can stay with the old master after a failover until its socket times out.
    failoverDetector: true,
    // A Sentinel that hangs accepts connections and answers nothing: after this time the next Sentinel is asked.
    sentinelCommandTimeout: SENTINEL_ANSWER_MS,
    sentinelRetryStrategy: (times) => Math.min(50 * times, RETRY_CAP_MS),
  });
}

function openCluster(hosts: HostAndPort[], options: ConnectionOptions): Cluster {
  // No automatic pipelines: if the commands of one are not all redirected alike (while a slot moves), ioredis passes the
  // redirections (ASK, MOVED) to the callers instead of following them. Without pipelines, each command follows its own.
  const { lazyConnect: _, enableOfflineQueue, enableAutoPipelining: __, retryStrategy: ___, ...redisOptions } = options;
  const cluster: Omit<ClusterOptions, "redisOptions"> & { redisOptions: ConnectionOptions } = {
    redisOptions,
    lazyConnect: true,
    ...(enableOfflineQueue === undefined ? {} : { enableOfflineQueue }),
    clusterRetryStrategy: (times) => Math.min(100 * times, RETRY_CAP_MS),
  };
  return withPauses(new Cluster(hosts, cluster));
}

/** A Cluster whose duplicates (BullMQ makes one) pause, too. */
function withPauses(client: Cluster): Cluster {
  pauseBetweenSubscribers(client);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (...given) => withPauses(duplicate(...given));
  return client;
}

/**
 * Connects and resolves when commands can be sent.
 * @throws SetupRefused as soon as Redis refuses the user, the password or the database; an error with the last reason and
 *   the next step after `timeoutMs`. The client is disconnected then.
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

/**
 * Refuses a password if Redis has none for the user. HELLO accepts any password for a user without one, and so does AUTH
 * with a user. AUTH with only the password does not.
 */
async function refuseUselessPassword(client: RedisClient): Promise<void> {
  const options: ConnectionOptions = client instanceof Cluster ? (client.options.redisOptions ?? {}) : client.options;
  const { username, password } = options;
  if (password === undefined || password === null || (username ?? "default") !== "default") return;
  try {
    await client.call("AUTH", password);
  } catch (error) {
    const refused = setupRefused(error);
    if (refused !== null) throw refused;
    // A Redis that has AUTH under another name cannot be checked; HELLO has let this process in.
    if (!(error instanceof Error && error.name === "ReplyError")) throw error;
  }
}

/** The error for a Redis that is silent for `timeoutMs` when it is needed at a start. @param cause the last reason; null: none. */
export function noAnswer(cause: unknown, timeoutMs: number): Error {
  const reason = cause instanceof Error ? cause.message : `no answer within ${timeoutMs} ms`;
  return new Error(`Redis does not answer at REDIS_URL (${reason}); check that it runs and the URL`, { cause });
}

/** Does it have several masters? Then a script's keys must share a slot, and commands sent together keep no order. */
export const isCluster = (client: RedisClient): boolean => client.isCluster;

/** How the error replies of Redis begin that mean: not now. */
const NOT_NOW = /^(LOADING|READONLY|OOM|MISCONF|CLUSTERDOWN|MASTERDOWN|BUSY|NOREPLICAS|UNBLOCKED)\b/;
const CONNECTION =
  /Connection is closed|aborted due to connection close|Stream isn't writeable|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOENT|ENOTFOUND|EAI_AGAIN|Command timed out|Socket timeout|Failed to refresh slots|All sentinels are unreachable|max retries per request|max number of clients|Cluster isn't ready|No connection/i;

/** Replies of a Redis Cluster that moves a slot, if the client cannot follow them to the other server. They mean: not now. */
const SLOT_MOVING = /^(ASK|MOVED|TRYAGAIN)\b|non local key|Too many Cluster redirections/;

/** Does this error say that a Redis Cluster moves the slot? Nothing was done; a retry can succeed after the move. */
export const isSlotMoving = (error: unknown): boolean => error instanceof Error && SLOT_MOVING.test(error.message);

/** The message of this error, or of one that caused it, if it says that Redis is away, full or read-only; else null. */
function whyUnavailable(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const refused = setupRefused(error);
  if (refused !== null) return refused.message;
  const { message, cause } = error;
  const isUnavailable = [SLOT_MOVING, NOT_NOW, CONNECTION].some((known) => known.test(message));
  return isUnavailable ? message : whyUnavailable(cause);
}

/** Does this error mean that Redis is away, full or read-only? Then it is not a mistake in CrossStitch. */
export const isRedisUnavailable = (error: unknown): error is Error => whyUnavailable(error) !== null;

/** The request error if Redis is away, full or read-only; else the error itself. */
export function asRequestError(error: unknown): unknown {
  // Decided already: what caused it does not change the answer.
  if (error instanceof RequestError) return error;
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
