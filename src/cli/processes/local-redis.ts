import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { mkdir, open, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { delimiter, join, resolve } from "node:path";
import { Guard } from "./guard.ts";
import { isAlive, readOwner, writeOwner } from "./owner-file.ts";
import { answersPing, type RedisAddress } from "./redis-ping.ts";
import { tailOfFile } from "./tail-of-file.ts";
import { waitUntil } from "./wait-until.ts";

const SOCKET = "redis.sock";
const PROGRAMS = ["redis-server", "valkey-server"];
/** sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included. */
const MAX_SOCKET_PATH_BYTES = 100;
/** Loading a large append-only file is the slow part. */
const START_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 5000;
/** Another program may take a free port between our check and the moment when Redis listens. */
const PORT_TRIES = 3;

type LocalRedisOptions = {
  /** Folder of this Redis only: its data, socket, log and pid file. Created if missing. Existing data is loaded. */
  readonly dir: string;
  /**
   * TCP port on the loopback address; 0: a free one. Default: a Unix socket in `dir`, or a free port if the socket's path is
   * too long.
   */
  readonly port?: number;
  /** Settings of redis.conf that override ours: the tests' cluster needs some. */
  readonly settings?: Readonly<Record<string, string>>;
};

export type LocalRedis = {
  /** `redis+unix:///path` or `redis://127.0.0.1:port`. */
  readonly url: string;
  readonly pid: number;
  /** Resolves when Redis has ended, with the exit code, signal or error. */
  readonly ended: Promise<string>;
  /** SIGTERM, SIGKILL after 5 s; resolves when Redis has ended. May be called twice and at once. */
  stop(): Promise<void>;
  /** For fault tests: sends any signal, also SIGKILL and SIGSTOP. */
  kill(signal: NodeJS.Signals): void;
};

/** Thrown when no private Redis can be started; the message says why and what to do. */
export class LocalRedisError extends Error {
  override readonly name = "LocalRedisError";
}

/** @returns the path of the first Redis server program on the PATH, or null. */
export function findRedisServer(path: string = process.env["PATH"] ?? ""): string | null {
  const folders = path.split(delimiter).filter((folder) => folder !== "");
  return PROGRAMS.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable) ?? null;
}

const running = new Map<string, Promise<LocalRedis>>();

/**
 * Starts a private Redis for this process: append-only file on, `noeviction`, reached over a Unix socket or the loopback
 * address only. The Redis ends with this process, however this process ends. A second call for the same folder returns the
 * Redis that runs there.
 * @throws LocalRedisError
 */
export function startLocalRedis(options: LocalRedisOptions): Promise<LocalRedis> {
  const dir = resolve(options.dir);
  const present = running.get(dir);
  if (present !== undefined) return present;
  const starting = start({ ...options, dir });
  const forget = (): void => {
    if (running.get(dir) === starting) running.delete(dir);
  };
  running.set(dir, starting);
  starting.then((redis) => redis.ended).then(forget, forget);
  return starting;
}

async function start(options: LocalRedisOptions): Promise<LocalRedis> {
  const program = findRedisServer();
  if (program === null) {
    const line = process.platform === "darwin" ? "brew install redis" : "sudo apt-get install -y redis-server";
    throw new LocalRedisError(`neither redis-server nor valkey-server is on the PATH. Type: ${line}, or set REDIS_URL`);
  }
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  await endFormerLife(options.dir);
  for (let left = PORT_TRIES; ; left--) {
    const address = await chooseAddress(options);
    try {
      return await startAt(program, address, options);
    } catch (error) {
      const taken = error instanceof LocalRedisError && /address already in use/i.test(error.message);
      if (!taken || (options.port ?? 0) !== 0 || left === 1) throw error;
    }
  }
}

async function startAt(program: string, address: RedisAddress, options: LocalRedisOptions): Promise<LocalRedis> {
  const { dir } = options;
  const logFile = join(dir, "redis.log");
  const log = await open(logFile, "w");
  const guard = new Guard(dir);
  const child = spawn(program, settingsOf(address, options.settings ?? {}), {
    cwd: dir,
    // In a session of its own: Ctrl-C on the terminal must not end Redis before the processes that still need it.
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    env: { PATH: process.env["PATH"], LC_ALL: "C" },
  });
  if (child.pid !== undefined) guard.add(child.pid);
  const ended = endOf(child, guard);
  await log.close();

  let end: string | null = null;
  void ended.then((how) => {
    end = how;
  });
  const failed = async (what: string): Promise<LocalRedisError> =>
    new LocalRedisError(`${program} ${what}\n${await tailOfFile(logFile, 15)}`);
  const ready = await waitUntil(async () => end !== null || (await answersPing(address)), START_LIMIT_MS);
  if (end !== null || child.pid === undefined) throw await failed(`ended at its start: ${await ended}`);
  const redis = handleOf(child, child.pid, address, ended);
  if (!ready) {
    await redis.stop();
    throw await failed(`did not answer within ${START_LIMIT_MS / 1000} s`);
  }
  await writeOwner(ownerFile(dir), child.pid);
  return redis;
}

function handleOf(child: ChildProcess, pid: number, address: RedisAddress, ended: Promise<string>): LocalRedis {
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const force = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    await ended;
    clearTimeout(force);
  };
  return {
    url:
      "path" in address
        ? `redis+unix://${address.path.split("/").map(encodeURIComponent).join("/")}`
        : `redis://${address.host}:${address.port}`,
    pid,
    ended,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
    kill: (signal) => {
      child.kill(signal);
    },
  };
}

/** Resolves with the exit code, signal or error of Redis, once Redis and its guard are gone. */
async function endOf(child: ChildProcess, guard: Guard): Promise<string> {
  const how = await new Promise<string>((resolveEnd) => {
    child.once("error", (error) => resolveEnd(error.message));
    child.once("exit", (code, signal) => resolveEnd(signal ?? `exit code ${code}`));
  });
  if (child.pid !== undefined) guard.remove(child.pid);
  await guard.close();
  return how;
}

function settingsOf(address: RedisAddress, over: Readonly<Record<string, string>>): string[] {
  const listen =
    "path" in address
      ? { port: "0", unixsocket: address.path, unixsocketperm: "700" }
      : { port: String(address.port), bind: address.host };
  const settings = {
    ...listen,
    daemonize: "no",
    appendonly: "yes",
    appendfsync: "everysec",
    save: "",
    "maxmemory-policy": "noeviction",
    ...over,
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

async function chooseAddress(options: LocalRedisOptions): Promise<RedisAddress> {
  const path = join(options.dir, SOCKET);
  if (options.port === undefined && Buffer.byteLength(path) < MAX_SOCKET_PATH_BYTES) return { path };
  return { host: "127.0.0.1", port: options.port || (await freePort()) };
}

const ownerFile = (dir: string): string => join(dir, "redis.pid");

/** Ends a Redis that a killed process left behind, and waits for its end. Two of them on one folder would ruin its data. */
async function endFormerLife(dir: string): Promise<void> {
  const former = await readOwner(ownerFile(dir));
  if (former !== null) {
    const gone = async (): Promise<boolean> => !(await isAlive(former));
    if (!(await gone())) process.kill(former.pid, "SIGTERM");
    if (!(await waitUntil(gone, STOP_LIMIT_MS))) process.kill(former.pid, "SIGKILL");
    await waitUntil(gone, STOP_LIMIT_MS);
  }
  const socket = { path: join(dir, SOCKET) };
  if (!(await waitUntil(async () => !(await answersPing(socket)), 2 * STOP_LIMIT_MS))) {
    throw new LocalRedisError(`another Redis uses ${dir}, and nothing shows that it was started here. Stop it first`);
  }
  await rm(ownerFile(dir), { force: true });
}

/** A TCP port on the loopback address that nobody listens on at this moment. */
export function freePort(host = "127.0.0.1", port = 0): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host, port }, () => {
      const address = server.address();
      server.close(() => resolvePort(typeof address === "object" && address !== null ? address.port : port));
    });
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
