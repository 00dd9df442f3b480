/** The address of Redis and the credentials, as in `REDIS_URL`. */
export type RedisAddress = {
  readonly tls: boolean;
  readonly auth: { readonly username?: string; readonly password?: string };
} & (
  | { readonly kind: "single"; readonly host: HostAndPort; readonly db: number }
  | { readonly kind: "cluster"; readonly hosts: HostAndPort[] }
  | { readonly kind: "sentinel"; readonly hosts: HostAndPort[]; readonly primary: string }
  | { readonly kind: "unix"; readonly path: string }
);

export type HostAndPort = { readonly host: string; readonly port: number };

const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;

const SCHEMES =
  "must begin with redis://, rediss://, redis+cluster://, redis+sentinel:// or redis+unix:// (add s to redis for TLS)";
const QUERY =
  "has a ? or # and something after it, which nobody reads: a database stands after the host (redis://127.0.0.1:6379/1), the user and password before it (redis://user:password@127.0.0.1:6379), TLS is rediss:// (percent-encode a ? as %3F and a # as %23)";
const USER_INFO =
  "has an @ without a user and password before it, or a user without a password: redis://user:password@127.0.0.1:6379, redis://:password@127.0.0.1:6379, or neither and no @ (for a user that needs none, any password will do)";
const NO_HOST = "what follows the scheme and the password is not host:port (percent-encode / and @ in the password)";

/**
 * Reads `redis://[user:password@]host[:port][/db]`, `rediss://…`, `redis+cluster://h:p,h:p`,
 * `redis+sentinel://h:p,h:p/<master>`, `redis+unix:///path/to.sock`. It refuses every part that it cannot use: if it
 * ignored a database in a query, the process would join the cluster in database 0.
 *
 * `wrong`: what is wrong, and a correct example. It repeats no part of the URL: if the password is not percent-encoded,
 * any part may belong to the password.
 */
export function parseRedisUrl(url: string): RedisAddress | { readonly wrong: string } {
  const match = /^(redis|rediss)(?:\+(cluster|sentinel)|(?<=redis)\+(unix))?:\/\/(?:([^@/]*)@)?([^/]*)(\/.*)?$/s.exec(
    url,
  );
  if (match === null) return { wrong: SCHEMES };
  const [, scheme, spread, unix, userInfo, hostList = "", path = ""] = match;
  // Also before the @: in `redis://h?password=p@q` it is not clear which part is the host.
  if (/[?#]/.test(url)) return { wrong: QUERY };
  const [user = "", password = ""] = (userInfo ?? "").split(/:(.*)/s).map(decoded);
  const name = decoded(path.slice(1));
  if (user === null || password === null || name === null)
    return { wrong: "has a % that encodes nothing (write %25 for a % in the password)" };
  if (userInfo !== undefined && password === "") return { wrong: USER_INFO };
  const common = {
    tls: scheme === "rediss",
    auth: { ...(user === "" ? {} : { username: user }), ...(password === "" ? {} : { password }) },
  };
  if (unix !== undefined) {
    if (hostList !== "" || name === "")
      return { wrong: "needs the whole path of the socket, after three slashes: redis+unix:///run/redis.sock" };
    return { ...common, kind: "unix", path: `/${name}` };
  }
  const hosts = parseHosts(hostList, spread === "sentinel" ? SENTINEL_PORT : REDIS_PORT);
  if ("wrong" in hosts) return hosts;
  if (spread === "sentinel") {
    if (name === "") return { wrong: `needs the master's name after the hosts: ${EXAMPLE_SENTINEL}` };
    if (name.includes("/"))
      return { wrong: `has something after the master's name, where database 0 is used: ${EXAMPLE_SENTINEL}` };
    return { ...common, kind: "sentinel", hosts, primary: name };
  }
  if (spread === "cluster") {
    if (name !== "")
      return { wrong: `has something after the hosts, but a Cluster has no databases: ${EXAMPLE_CLUSTER}` };
    return { ...common, kind: "cluster", hosts };
  }
  const [host, ...more] = hosts;
  if (host === undefined) return { wrong: NO_HOST };
  if (more.length > 0) return { wrong: `has several hosts, which a Cluster has: ${EXAMPLE_CLUSTER}` };
  if (!/^\d{0,4}$/.test(name))
    return {
      wrong:
        "has after the host what is no number of a database, such as redis://127.0.0.1:6379/0 (percent-encode / and @ in the password)",
    };
  return { ...common, kind: "single", host, db: Number(name) };
}

const EXAMPLE_SENTINEL = "redis+sentinel://h:26379,h:26379/main";
const EXAMPLE_CLUSTER = "redis+cluster://h:6379,h:6379";

function parseHosts(list: string, defaultPort: number): HostAndPort[] | { readonly wrong: string } {
  const hosts: HostAndPort[] = [];
  for (const entry of list.split(",")) {
    const [, host, digits] = /^(\[[0-9a-fA-F:]+\]|[^:\s@]+)(?::(\d{1,5}))?$/.exec(entry.trim()) ?? [];
    if (host === undefined) return { wrong: `${NO_HOST}, such as redis://127.0.0.1:6379` };
    const port = Number(digits ?? defaultPort);
    if (port < 1 || port > 65_535) return { wrong: "the port must be 1 to 65535, such as redis://127.0.0.1:6379" };
    hosts.push({ host: host.replace(/^\[|\]$/g, ""), port });
  }
  return hosts;
}

/** null if a `%` encodes nothing. */
function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
