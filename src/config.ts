import { homedir, hostname } from "node:os";
import { isAbsolute, join } from "node:path";
import * as z from "zod";
import { clusterName, nodeId, nodeIdFromHostname } from "./domain/names/ids.ts";
import { invalidOf } from "./domain/json/invalid.ts";
import { type ChosenMaster, LEASE_IN_REDIS, leasePlace, NAMED_MODES } from "./domain/master-mode.ts";
import { wrongToken, wrongUrl } from "./api-address.ts";
import { errorCode } from "./error-text.ts";
import { parseRedisUrl } from "./redis-url.ts";

/** A value that never appears in logs, JSON or errors. Only `reveal()` returns it. */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return "[secret]";
  }
}

const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, "must be a whole number")
    .transform(Number)
    .pipe(z.number().min(min).max(max));
const list = z.string().transform((text) =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);
const pairs = list.transform((items, context) => {
  const entries: Record<string, string> = {};
  for (const item of items) {
    const at = item.indexOf("=");
    if (at < 1 || item.startsWith("__proto__")) {
      context.issues.push({ code: "custom", message: "every item must be name=value", input: item });
      return z.NEVER;
    }
    entries[item.slice(0, at).trim()] = item.slice(at + 1).trim();
  }
  return entries;
});

/** Text that a function finds nothing wrong with; what it finds does not repeat the text. */
const checked = (wrong: (text: string) => string | null) =>
  z.string().check((context) => {
    const message = wrong(context.value);
    if (message !== null) context.issues.push({ code: "custom", message, input: "" });
  });
const redisUrl = checked((text) => {
  const address = parseRedisUrl(text);
  return "wrong" in address ? address.wrong : null;
}).transform((text) => new Secret(text));

/** The path of a module with a Master of one's own. */
const OWN_MASTER = /^\.{0,2}\//;
const isNamedMode = (text: string): text is (typeof NAMED_MODES)[number] =>
  (NAMED_MODES as readonly string[]).includes(text);

/**
 * Every setting, once: name, check, default and meaning. The README's table is made from this, and a test compares them.
 * Values are the strings of the environment; an empty string counts as not set.
 */
export const settings = z.object({
  REDIS_URL: redisUrl
    .optional()
    .describe(
      "`redis://`, `rediss://`, `redis+cluster://h:p,h:p`, `redis+sentinel://h:p,h:p/<master>`, `redis+unix:///path`",
    ),
  STITCH_CLUSTER: clusterName.default("default").describe("Name of the cluster; several share one Redis"),
  STITCH_HOST: z.string().min(1).default("127.0.0.1").describe("Address the API listens on"),
  STITCH_PORT: wholeNumber(0, 65_535).default(8787).describe("Port the API listens on"),
  STITCH_TOKEN: checked(wrongToken)
    .transform((text) => new Secret(text))
    .optional()
    .describe("API: required from clients. Clients: sent"),
  STITCH_URL: checked(wrongUrl).default("http://127.0.0.1:8787").describe("Clients: where the API is"),
  STITCH_NODE_ID: nodeId
    .optional()
    .describe("Id of this node (default: the one it had, at first the host name's first label)"),
  STITCH_ZONES: list.default([]).describe("Zones of this node: `a,b`"),
  STITCH_LABELS: pairs.default({}).describe("Labels of this node: `disk=ssd,arch=arm`"),
  STITCH_CAPACITY_CPU: z
    .string()
    .regex(/^\d{1,6}(\.\d{1,3})?$/, "must be a number of cores, such as 2 or 0.5")
    .transform(Number)
    .optional()
    .describe("Cores this node offers (default: the machine's)"),
  STITCH_CAPACITY_MEMORY_BYTES: wholeNumber(0, Number.MAX_SAFE_INTEGER)
    .optional()
    .describe("Bytes of memory this node offers (default: the machine's)"),
  STITCH_MODULES: pairs.default({}).describe("Modules this node offers: `name=path,…`"),
  STITCH_STATE_DIR: z
    .string()
    .min(1)
    .optional()
    .describe("What a worker keeps on disk (default: `~/.local/state/crossstitch`)"),
  STITCH_ROLES: list
    .pipe(z.array(z.enum(["node", "master"])).min(1))
    .default(["node", "master"])
    .describe("What `stitch node` runs in its process: `node,master`"),
  STITCH_MASTER: z
    .string()
    .refine((text) => isNamedMode(text) || OWN_MASTER.test(text), {
      error: `must be ${NAMED_MODES.join(", ")}, or the path of a module, which begins with ./, ../ or /`,
    })
    .default(NAMED_MODES[0])
    .describe(`The Master: ${NAMED_MODES.map((mode) => `\`${mode}\``).join(", ")}, or the path of a module`),
  STITCH_MASTER_PREFERRED: nodeId
    .optional()
    .describe("With `preferred`: the id of the Master that decides while it is alive"),
  STITCH_LEADER_LEASE: leasePlace
    .default(LEASE_IN_REDIS)
    .describe("With `leader`: where the leader's lease lives: `redis`, or `etcd+http(s)://h:p,…`"),
  STITCH_LEADER_LEASE_MS: wholeNumber(1000, 600_000)
    .default(6000)
    .describe(
      "With `leader`: milliseconds after which a leader that is not heard of is replaced; with etcd whole seconds",
    ),
  STITCH_HEARTBEAT_MS: wholeNumber(100, 60_000).default(2000).describe("Milliseconds between heartbeats"),
  STITCH_LEASE_MS: wholeNumber(300, 600_000)
    .default(7500)
    .describe("Milliseconds a node is alive after its last heartbeat"),
  STITCH_DEAD_AFTER_MS: wholeNumber(0, 600_000)
    .default(2000)
    .describe("Milliseconds past the lease until a node counts as dead"),
  STITCH_LEFT_GRACE_MS: wholeNumber(0, 86_400_000)
    .default(300_000)
    .describe("Milliseconds a node that left may stay away before its stitches are placed elsewhere"),
  STITCH_JOB_RETENTION_MS: wholeNumber(1000, 31 * 86_400_000)
    .default(86_400_000)
    .describe("Milliseconds a finished job and its idempotency key are kept"),
  STITCH_HEALTH_FILE: z
    .string()
    .min(1)
    .optional()
    .describe("A part writes this file every 5 s while it works, for health checks"),
  STITCH_LOG_LEVEL: z
    .enum(["trace", "debug", "info", "warn", "error", "silent"])
    .default("info")
    .describe("What is logged, as JSON lines on stderr"),
});

/** Variables that a node sets for its stitches. A stitch that runs `stitch` itself passes them on. They are not settings. */
const SET_FOR_STITCHES = ["STITCH_ID", "STITCH_GROUP", "STITCH_DATA_DIR", "STITCH_SESSION"];

export type Config = {
  readonly redisUrl: Secret | null;
  readonly cluster: string;
  readonly host: string;
  readonly port: number;
  readonly token: Secret | null;
  readonly url: string;
  /** `STITCH_NODE_ID`, else an id made from the host name. */
  readonly nodeId: string;
  readonly nodeIdIsSet: boolean;
  readonly zones: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** null: the capacity of the machine. */
  readonly capacityCpu: number | null;
  readonly capacityMemoryBytes: number | null;
  readonly modules: Readonly<Record<string, string>>;
  /** null: not set, and this user has no home folder either. See `requireStateDir`. */
  readonly stateDir: string | null;
  readonly roles: readonly ("node" | "master")[];
  readonly master: ChosenMaster;
  readonly leaderLeaseMs: number;
  /** The path of the module in the mode `own`; else null. */
  readonly masterModule: string | null;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly deadAfterMs: number;
  readonly leftGraceMs: number;
  readonly jobRetentionMs: number;
  /** null: none. */
  readonly healthFile: string | null;
  readonly logLevel: "trace" | "debug" | "info" | "warn" | "error" | "silent";
};

/**
 * Thrown when a setting is wrong. The message has one line per wrong setting: its name and what it must be. Values are not
 * repeated: one may be a secret.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Reads the settings of one process from an environment. The caller puts flags into that environment first.
 * @throws ConfigError that names every wrong setting, and every unknown one that begins with `STITCH_`.
 */
export function loadConfig(env: Env): Config {
  const known = Object.keys(settings.shape);
  const given: Record<string, string> = {};
  const problems: string[] = [];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || value === "") continue;
    if (known.includes(name)) given[name] = value;
    else if (name.startsWith("STITCH_") && !SET_FOR_STITCHES.includes(name)) problems.push(`${name}: no such setting`);
  }
  const parsed = settings.safeParse(given);
  if (!parsed.success) {
    for (const { path, message } of invalidOf(parsed.error)) problems.push(`${path}: ${message}`);
  }
  if (parsed.success && parsed.data.STITCH_LEASE_MS < 3 * parsed.data.STITCH_HEARTBEAT_MS)
    problems.push(
      "STITCH_LEASE_MS: must be at least three heartbeats (STITCH_HEARTBEAT_MS), or one late beat ends a healthy node's lease",
    );
  if (parsed.success && parsed.data.STITCH_MASTER === "preferred" && parsed.data.STITCH_MASTER_PREFERRED === undefined)
    problems.push("STITCH_MASTER_PREFERRED: needed with STITCH_MASTER=preferred; the id of a Master (stitch masters)");
  if (parsed.success && parsed.data.STITCH_MASTER !== "preferred" && parsed.data.STITCH_MASTER_PREFERRED !== undefined)
    problems.push("STITCH_MASTER_PREFERRED: only with STITCH_MASTER=preferred");
  if (parsed.success && parsed.data.STITCH_LEADER_LEASE !== LEASE_IN_REDIS) {
    const { STITCH_MASTER: mode, STITCH_LEADER_LEASE_MS: leaseMs } = parsed.data;
    if (mode !== "leader") problems.push("STITCH_LEADER_LEASE: only with STITCH_MASTER=leader");
    if (leaseMs < 2000 || leaseMs % 1000 !== 0)
      problems.push("STITCH_LEADER_LEASE_MS: with a lease in etcd it must be whole seconds, at least 2000");
  }
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems.join("\n"));
  const s = parsed.data;
  return {
    redisUrl: s.REDIS_URL ?? null,
    cluster: s.STITCH_CLUSTER,
    host: s.STITCH_HOST,
    port: s.STITCH_PORT,
    token: s.STITCH_TOKEN ?? null,
    url: s.STITCH_URL,
    nodeId: s.STITCH_NODE_ID ?? nodeIdFromHostname(hostname()),
    nodeIdIsSet: s.STITCH_NODE_ID !== undefined,
    zones: [...new Set(s.STITCH_ZONES)],
    labels: s.STITCH_LABELS,
    capacityCpu: s.STITCH_CAPACITY_CPU ?? null,
    capacityMemoryBytes: s.STITCH_CAPACITY_MEMORY_BYTES ?? null,
    modules: s.STITCH_MODULES,
    stateDir: s.STITCH_STATE_DIR ?? stateDirOf(env),
    roles: [...new Set(s.STITCH_ROLES)],
    master: {
      mode: isNamedMode(s.STITCH_MASTER) ? s.STITCH_MASTER : "own",
      preferred: s.STITCH_MASTER_PREFERRED ?? null,
      lease: s.STITCH_MASTER === "leader" ? s.STITCH_LEADER_LEASE : null,
    },
    leaderLeaseMs: s.STITCH_LEADER_LEASE_MS,
    masterModule: isNamedMode(s.STITCH_MASTER) ? null : s.STITCH_MASTER,
    heartbeatMs: s.STITCH_HEARTBEAT_MS,
    leaseMs: s.STITCH_LEASE_MS,
    deadAfterMs: s.STITCH_DEAD_AFTER_MS,
    leftGraceMs: s.STITCH_LEFT_GRACE_MS,
    jobRetentionMs: s.STITCH_JOB_RETENTION_MS,
    healthFile: s.STITCH_HEALTH_FILE ?? null,
    logLevel: s.STITCH_LOG_LEVEL,
  };
}

/** The default folder for state. null if the user has no home folder: only a worker needs one. */
function stateDirOf(env: Env): string | null {
  // A relative path must be ignored (XDG Base Directory Specification).
  const xdg = env["XDG_STATE_HOME"] ?? "";
  if (isAbsolute(xdg)) return join(xdg, "crossstitch");
  const home = homeFolder();
  return home === null ? null : join(home, ".local", "state", "crossstitch");
}

/** null if HOME is not an absolute path, or HOME is not set and the system does not know the user (common in containers). */
function homeFolder(): string | null {
  try {
    const home = homedir();
    return isAbsolute(home) ? home : null;
  } catch (error) {
    if (errorCode(error) === "ERR_SYSTEM_ERROR") return null;
    throw error;
  }
}

/** The folder where a worker keeps its state. @throws ConfigError if there is none. */
export function requireStateDir(config: Config): string {
  if (config.stateDir === null)
    throw new ConfigError(
      "STITCH_STATE_DIR: not set, and this user has no home folder to keep state in (HOME); set one of them",
    );
  return config.stateDir;
}

/** The Redis this process must reach. @throws ConfigError if none is set. */
export function requireRedis(config: Config): string {
  if (config.redisUrl === null)
    throw new ConfigError("REDIS_URL: not set; say where Redis is, or run `stitch up`, which brings its own");
  return config.redisUrl.reveal();
}
