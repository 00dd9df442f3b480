import type { ChainableCommander } from "ioredis";
import type { RedisClient } from "./client.ts";

/** A Lua script with its typed caller: runs atomically in the slot of its keys. */
type Script<Keys extends readonly string[]> = {
  readonly name: string;
  call(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
  /**
   * As `call`, but with its text instead of its hash: a Redis that has forgotten the script cannot have it sent again, after commands
   * that were sent together with it and must come later. For a single Redis: a Cluster keeps no such order.
   */
  callInOrder(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
  /**
   * As `call`, but answered separately. Otherwise, calls in one turn of the event loop are sent, and answered, together.
   * For large answers: one can be parsed while Redis works on the next.
   */
  callApart(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
};

type Callable = (...args: (string | number)[]) => Promise<unknown>;

/** Begins every script that contains the name `now`: Redis's time in Unix milliseconds. */
const NOW = "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n";

/** Begins every script that calls `only`: deletes a key of another type than the cluster uses; it is nobody's. */
const ONLY = `
local function only(key, kind)
  local is = redis.call('TYPE', key).ok
  if is == kind or is == 'none' then return false end
  redis.call('DEL', key)
  return true
end
`;

/** A Lua expression: does this error of `INCR` say that the key does not hold a number? */
export const noNumber = (error: string): string =>
  `(string.find(${error}, '^WRONGTYPE') or string.find(${error}, 'not an integer', 1, true) or string.find(${error}, 'overflow', 1, true))`;

const scripts = new Map<string, { numberOfKeys?: number; lua: string }>();

/**
 * Defines every script on a new connection. At once, not at the first call: an automatic pipeline that began before a
 * script was defined cannot contain the script.
 */
export function installScripts(redis: RedisClient): void {
  for (const [command, definition] of scripts) redis.defineCommand(command, definition);
}

/**
 * Defines a script. It is sent once per connection and called by its hash afterwards (EVALSHA).
 * @param keys how many of the arguments are keys; all of them in one slot. `null`: as many as each call has. Only for a
 *   single Redis: in a Cluster, ioredis would take the number of keys for the first key.
 */
export function defineScript<Keys extends readonly string[]>(
  name: string,
  keys: Keys["length"] | null,
  lua: string,
): Script<Keys> {
  const command = `cs_${name}`;
  const text = (/\bnow\b/.test(lua) ? NOW : "") + (/\bonly\(/.test(lua) ? ONLY : "") + lua;
  scripts.set(command, { ...(keys === null ? {} : { numberOfKeys: keys }), lua: text });
  // ioredis adds the method at run time, so its type cannot know it.
  const run = (on: RedisClient | ChainableCommander, keyNames: Keys, args: readonly (string | number)[]) =>
    (Reflect.get(on, command) as Callable).call(on, ...(keys === null ? [keyNames.length] : []), ...keyNames, ...args);
  return {
    name,
    call: run,
    callInOrder: (redis, keyNames, args) => redis.eval(text, keyNames.length, ...keyNames, ...args),
    async callApart(redis, keyNames, args) {
      const pipeline = redis.pipeline();
      void run(pipeline, keyNames, args);
      const [[error, reply] = [null, null]] = (await pipeline.exec()) ?? [];
      if (error !== null) throw error;
      return reply;
    },
  };
}
