import type { ChainableCommander } from "ioredis";
import type { RedisClient } from "./client.ts";

/** A Lua script with its typed caller: runs atomically in the slot of its keys. */
type Script<Keys extends readonly string[]> = {
  readonly name: string;
  call(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
  /**
   * As `call`, but answered by itself: what is called in one turn of the loop is otherwise sent, and answered, together. For
   * large answers, of which one can be taken apart while Redis is at the next.
   */
  callApart(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
};

type Callable = (...args: (string | number)[]) => Promise<unknown>;

/** Every script that names it begins with this: `now` is Redis's time in Unix milliseconds. */
const NOW = "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n";

/** So does every script that names it: deletes what is of another type than a key of the cluster has; it is nobody's. */
const ONLY = `
local function only(key, kind)
  local is = redis.call('TYPE', key).ok
  if is == kind or is == 'none' then return false end
  redis.call('DEL', key)
  return true
end
`;

/** An expression of Lua: does this error of `INCR` say that something else than a number is there? */
export const noNumber = (error: string): string =>
  `(string.find(${error}, '^WRONGTYPE') or string.find(${error}, 'not an integer', 1, true) or string.find(${error}, 'overflow', 1, true))`;

const scripts = new Map<string, { numberOfKeys?: number; lua: string }>();

/**
 * Makes every script known to a new connection. At once, not at the first call: an automatic pipeline that was begun before
 * a script became known cannot take it.
 */
export function installScripts(redis: RedisClient): void {
  for (const [command, definition] of scripts) redis.defineCommand(command, definition);
}

/**
 * Defines a script. It is sent once per connection and called by its hash afterwards (EVALSHA).
 * @param keys how many of the arguments are keys; all of them in one slot. `null`: as many as the call has, for one Redis
 *   only: in a Cluster ioredis would take their number for the first key.
 */
export function defineScript<Keys extends readonly string[]>(
  name: string,
  keys: Keys["length"] | null,
  lua: string,
): Script<Keys> {
  const command = `cs_${name}`;
  scripts.set(command, {
    ...(keys === null ? {} : { numberOfKeys: keys }),
    lua: (/\bnow\b/.test(lua) ? NOW : "") + (/\bonly\(/.test(lua) ? ONLY : "") + lua,
  });
  // ioredis adds the method at run time, so its type cannot know it.
  const run = (on: RedisClient | ChainableCommander, keyNames: Keys, args: readonly (string | number)[]) =>
    (Reflect.get(on, command) as Callable).call(on, ...(keys === null ? [keyNames.length] : []), ...keyNames, ...args);
  return {
    name,
    call: run,
    async callApart(redis, keyNames, args) {
      const pipeline = redis.pipeline();
      void run(pipeline, keyNames, args);
      const [[error, reply] = [null, null]] = (await pipeline.exec()) ?? [];
      if (error !== null) throw error;
      return reply;
    },
  };
}
