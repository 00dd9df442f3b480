import assert from "node:assert/strict";
import type { OpenMaster } from "../../src/master/open-master.ts";

/** Holds back the next call of a script by a Master. */
export function holdBack({ redis }: Pick<OpenMaster, "redis">, script: string) {
  const name = `cs_${script}`;
  const call: unknown = Reflect.get(redis, name);
  const reached = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  Reflect.set(redis, name, async (...args: unknown[]): Promise<unknown> => {
    // ioredis calls this again when it sends the commands that it has gathered.
    Reflect.set(redis, name, call);
    reached.resolve();
    await released.promise;
    return typeof call === "function" ? Reflect.apply(call, redis, args) : assert.fail(`there is no script ${script}`);
  });
  return { reached: reached.promise, release: () => released.resolve() };
}
