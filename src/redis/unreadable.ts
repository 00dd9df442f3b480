import * as z from "zod";
import type { RedisClient } from "./connection/client.ts";
import type { KeyType } from "./layout.ts";
import { defineScript } from "./connection/script.ts";

/** Thrown, or told of, where a record in Redis is not what its writer should have written. It quotes nothing: that may be secret. */
export class UnreadableRecord extends Error {
  override readonly name = "UnreadableRecord";
  /** Whose record it is: a node's id, or a stitch's full id. */
  readonly id: string;
  constructor(id: string, key: string, field: string, reason: string) {
    super(`what Redis holds of ${id} cannot be read: "${field}" in ${key} ${reason}`);
    this.id = id;
  }
}

/** Told of a record that cannot be read; what is read beside it is there all the same. It may throw. */
export type OnUnreadable = (error: UnreadableRecord) => void;

/** For whoever asks for that one record. */
export const refuse: OnUnreadable = (error) => {
  throw error;
};

/** For whoever reads many, one by one: instead of one that cannot be read, null. */
export const passingOver =
  (onUnreadable: OnUnreadable) =>
  (error: unknown): null => {
    if (!(error instanceof UnreadableRecord)) throw error;
    onUnreadable(error);
    return null;
  };

/** Records that one reader tells of; a bound on what it remembers. */
const MOST_TOLD = 1000;

/** For one reader of many records: passes on the first word of each, not one at every read. */
export function tellOnce(tell: OnUnreadable): OnUnreadable {
  const told = new Set<string>();
  return (error) => {
    if (told.size >= MOST_TOLD || told.has(error.message)) return;
    told.add(error.message);
    tell(error);
  };
}

/** Does Redis hold another type of value there than is asked for? */
const isOtherType = (error: unknown): boolean => error instanceof Error && error.message.startsWith("WRONGTYPE");

/** What `read` gives of a key; `instead` where something of another type is there, unless `onUnreadable` throws. */
export async function readKey<T>(
  at: { readonly id: string; readonly key: string },
  read: Promise<T>,
  instead: T,
  onUnreadable: OnUnreadable,
): Promise<T> {
  try {
    return await read;
  } catch (error) {
    if (!isOtherType(error)) throw error;
    onUnreadable(new UnreadableRecord(at.id, at.key, "*", "is of another type"));
    return instead;
  }
}

/** KEYS index. ARGV its type. Atomic: what is written there by now, by others who found the same, stays. */
const clear = defineScript<[index: string]>("clear_index", 1, "return only(KEYS[1], ARGV[1]) and 1 or 0");

/**
 * What `read` gives of an index, a key of type `kind`. Something of another type in its place is deleted: those whom an index
 * lists write it again, and could not as long as that is there.
 */
export async function readIndex<T>(
  redis: RedisClient,
  key: string,
  kind: KeyType,
  read: Promise<T>,
  instead: T,
  onUnreadable: OnUnreadable = ignore,
): Promise<T> {
  let isOther = false;
  const found = await readKey({ id: "an index", key }, read, instead, (error) => {
    isOther = true;
    onUnreadable(error);
  });
  if (isOther) await clear.call(redis, [key], [kind]);
  return found;
}

/** Writes to an index, a key of type `kind`; as `readIndex`, something of another type in its place is deleted. */
export async function writeIndex<T>(
  redis: RedisClient,
  key: string,
  kind: KeyType,
  write: () => Promise<T>,
): Promise<T> {
  try {
    return await write();
  } catch (error) {
    if (!isOtherType(error)) throw error;
    await clear.call(redis, [key], [kind]);
    return write();
  }
}

/** It is put right by whoever finds it. */
const ignore: OnUnreadable = () => undefined;

/** Where a record is: whose, and in which field of which hash. */
export type At = { readonly id: string; readonly key: string; readonly field: string };

/** Takes a record apart that is one field of a hash. @throws UnreadableRecord */
export function readRequired<T>(schema: z.ZodType<T>, text: string, at: At): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const { path, reason } = whyUnreadable(error);
    throw new UnreadableRecord(at.id, at.key, at.field, inside(path, reason));
  }
}

/** As `readRequired`; null instead of the error, unless `onUnreadable` throws. */
export function readField<T>(schema: z.ZodType<T>, text: string, at: At, onUnreadable: OnUnreadable): T | null {
  try {
    return readRequired(schema, text, at);
  } catch (error) {
    return passingOver(onUnreadable)(error);
  }
}

/** Where in a text is it, and what is wrong there? Only where it is JSON is there a path. */
export function whyUnreadable(error: unknown): { readonly path: readonly PropertyKey[]; readonly reason: string } {
  const [issue] = error instanceof z.ZodError ? error.issues : [];
  return { path: issue?.path ?? [], reason: issue?.message ?? "is not JSON" };
}

export const inside = (path: readonly PropertyKey[], reason: string): string =>
  path.length === 0 ? reason : `(${path.map(String).join(".")}) ${reason}`;
