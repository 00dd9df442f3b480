/** Thrown if Redis refuses the setup of a connection: HELLO or AUTH with the user and password, SELECT with the database. */
export class SetupRefused extends Error {
  override readonly name = "SetupRefused";
}

/** How replies to these commands begin, and what the error says: cause and fix, without any part of REDIS_URL. */
const REFUSALS: readonly {
  readonly commands: RegExp;
  readonly reply: RegExp;
  readonly says: (code: string) => string;
}[] = [
  {
    commands: /^select$/,
    reply: /^ERR .*out of range/,
    says: () =>
      "Redis has no database of the number in REDIS_URL (SELECT: out of range); name one that it has (CONFIG GET databases), as in redis://127.0.0.1:6379/0",
  },
  {
    commands: /^select$/,
    reply: /^ERR .*cluster mode/,
    says: () =>
      "the Redis at REDIS_URL is one of a Redis Cluster, which has no databases (SELECT is refused); write redis+cluster://h:6379,h:6379",
  },
  {
    commands: /^select$/,
    reply: /^(NOPERM|ERR unknown command)/,
    says: (code) =>
      `the user of REDIS_URL may not choose a database (SELECT: ${code}); take the database out of REDIS_URL, or let the user choose one (ACL SETUSER <user> +select)`,
  },
  {
    commands: /^auth$/,
    reply: /^ERR .*(without any password configured|no password is set)/,
    says: () =>
      "REDIS_URL has a password, but Redis has none and lets everybody in; set it there (requirepass in redis.conf), or take it out of REDIS_URL",
  },
  {
    commands: /^(hello|auth)$/,
    reply: /^(WRONGPASS|NOPERM|ERR invalid password|ERR .*number of arguments)/,
    says: (code) => `Redis lets nobody in with the user and password of REDIS_URL (${code}); check them`,
  },
  {
    commands: /./,
    reply: /^NOAUTH/,
    says: (code) =>
      `Redis wants a password (${code}), and REDIS_URL has none; write redis://user:password@127.0.0.1:6379`,
  },
  {
    commands: /./,
    reply: /^DENIED/,
    says: (code) =>
      `Redis takes connections from its own machine only (${code}: protected mode); set a password there, and give it in REDIS_URL`,
  },
];

/**
 * The error for a reply to the setup of a connection, if Redis will reply the same again. null for a reply that may change
 * a moment later, for example because Redis has as many clients as it accepts (maxclients), or runs a script.
 */
export function setupRefused(error: unknown): SetupRefused | null {
  if (error instanceof SetupRefused) return error;
  if (!(error instanceof Error)) return null;
  // The client of a Redis Cluster reports here what its nodes have replied.
  if ("lastNodeError" in error) return setupRefused(error.lastNodeError);
  const command = "command" in error ? (error.command as { readonly name?: unknown }).name : null;
  if (typeof command !== "string") return null;
  const name = command.toLowerCase();
  const known = REFUSALS.find(({ commands, reply }) => commands.test(name) && reply.test(error.message));
  return known === undefined
    ? null
    : new SetupRefused(known.says(error.message.split(" ", 1)[0] ?? ""), { cause: error });
}
