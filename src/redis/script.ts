import type { RedisClient } from "./connection.ts";

/** A Lua script with its typed caller: runs atomically in the slot of its keys. */
export type Script<Keys extends readonly string[]> = {
  readonly name: string;
  call(redis: RedisClient, keys: Keys, args: readonly (string | number)[]): Promise<unknown>;
};

type Callable = (...args: (string | number)[]) => Promise<unknown>;

/** Every script begins with this: `now` is Redis's time in Unix milliseconds. */
const NOW = "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n";

/**
 * Defines a script. It is sent once per connection and called by its hash afterwards (EVALSHA).
 * @param keys how many of the arguments are keys; all of them in one slot.
 */
export function defineScript<Keys extends readonly string[]>(
  name: string,
  keys: Keys["length"],
  lua: string,
): Script<Keys> {
  const command = `cs_${name}`;
  return {
    name,
    call(redis, keyNames, args) {
      if (!(command in redis)) redis.defineCommand(command, { numberOfKeys: keys, lua: NOW + lua });
      const run: unknown = Reflect.get(redis, command);
      // ioredis adds the method at run time, so its type cannot know it.
      return (run as Callable).call(redis, ...keyNames, ...args);
    },
  };
}
