import * as z from "zod";
import type { RedisClient } from "./connection/client.ts";
import type { KeyType } from "./layout.ts";
import { defineScript } from "./connection/script.ts";

/** Thrown or reported if a record in Redis is not what its writer should write. It quotes nothing: that may be secret. */
export class UnreadableRecord extends Error {
  override readonly name = "UnreadableRecord";
  /** Whose record it is: a node's id, or a stitch's full id. */
  readonly id: string;
  constructor(id: string, key: string, field: string, reason: string) {
    super(`what Redis holds of ${id} cannot be read: "${field}" in ${key} ${reason}`);
    this.id = id;
  }
}

/** Is called for a record that cannot be read; the records that are read beside it are still returned. It may throw. */
export type OnUnreadable = (error: UnreadableRecord) => void;

/** For a reader that asks for exactly that record: throws the error. */
export const refuse: OnUnreadable = (error) => {
  throw error;
};

/** For a reader of many records, one by one: reports a record that cannot be read, and returns null instead of it. */
export const passingOver =
  (onUnreadable: OnUnreadable) =>
  (error: unknown): null => {
    if (!(error instanceof UnreadableRecord)) throw error;
    onUnreadable(error);
    return null;
  };

/** Most records that one reader reports: a bound on what it remembers. */
const MOST_TOLD = 1000;

/** For a reader of many records: reports each record once, not at every read. */
export function tellOnce(tell: OnUnreadable): OnUnreadable {
  const told = new Set<string>();
  return (error) => {
    if (told.size >= MOST_TOLD || told.has(error.message)) return;
    told.add(error.message);
    tell(error);
  };
}

/** Does the key hold a value of another type than the command asks for? */
const isOtherType = (error: unknown): boolean => error instanceof Error && error.message.startsWith("WRONGTYPE");

/** The result of `read` on a key; `instead` if the key has another type, unless `onUnreadable` throws. */
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

/**
 * Deletes an index of another type. KEYS index. ARGV the right type. Atomic: if others found the same and have
 * rewritten the index by now, it stays.
 */
const clear = defineScript<[index: string]>("clear_index", 1, "return only(KEYS[1], ARGV[1]) and 1 or 0");

/**
 * The result of `read` on an index, a key of type `kind`. A value of another type in its place is deleted: the owners of
 * the entries write the index again, and they cannot while that value is there.
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

/** Writes to an index, a key of type `kind`. As in `readIndex`, a value of another type in its place is deleted. */
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

/** Reports nothing: the reader that finds a value of another type repairs the index itself. */
const ignore: OnUnreadable = () => undefined;

/** The place of a record: whose record it is, the key of the hash, and the field. */
export type At = { readonly id: string; readonly key: string; readonly field: string };

/** Parses a record that is one field of a hash. @throws UnreadableRecord */
export function readRequired<T>(schema: z.ZodType<T>, text: string, at: At): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const { path, reason } = whyUnreadable(error);
    throw new UnreadableRecord(at.id, at.key, at.field, inside(path, reason));
  }
}

/** As `readRequired`, but returns null instead of throwing, unless `onUnreadable` throws. */
export function readField<T>(schema: z.ZodType<T>, text: string, at: At, onUnreadable: OnUnreadable): T | null {
  try {
    return readRequired(schema, text, at);
  } catch (error) {
    return passingOver(onUnreadable)(error);
  }
}

/** Says what is wrong in a text, and at which path. There is a path only if the text is JSON. */
export function whyUnreadable(error: unknown): { readonly path: readonly PropertyKey[]; readonly reason: string } {
  const [issue] = error instanceof z.ZodError ? error.issues : [];
  return { path: issue?.path ?? [], reason: issue?.message ?? "is not JSON" };
}

export const inside = (path: readonly PropertyKey[], reason: string): string =>
  path.length === 0 ? reason : `(${path.map(String).join(".")}) ${reason}`;
