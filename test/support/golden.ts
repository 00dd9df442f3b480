// What a run through all commands writes and answers, without what differs from run to run: test/integration/golden.test.ts.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { RedisClient } from "../../src/redis/connection/client.ts";

const root = dirname(dirname(import.meta.dirname));

/** Fields that hold a time, a measured duration, or a fact about this machine. */
const MEASURED =
  /(?:^at|At|AtMs|SinceMs|Ms)$|^(?:pid|cpu|cpuPercent|published|load|memory|usage|used|host|version|capacity|uptime|epoch|since|seq|session|incarnations?|beats?|launches?|node_version|arch|platform|cores|memoryBytes|free|offset|bytes)$/i;
/** Fields that match MEASURED, but that a client asked for or that are settings. */
const ASKED =
  /^(?:timeoutMs|deadlineMs|forceAfterMs|minHealthyMs|heartbeatMs|stopGraceMs|backoffMs|maxBackoffMs|windowMs|leaseMs|leastDurationMs)$/;

/** Replaces what differs from run to run, the same value always with the same word. */
export class Mask {
  readonly #names = new Map<string, string>();
  readonly #counts = new Map<string, number>();
  readonly #fixed: readonly (readonly [string, string])[];

  /** @param fixed texts of this run, each with its word: the cluster's name, its folder. */
  constructor(fixed: Readonly<Record<string, string>>) {
    this.#fixed = Object.entries({ ...fixed, [root]: "<root>", [process.execPath]: "<node>" }).sort(
      ([a], [b]) => b.length - a.length,
    );
  }

  text(text: string): string {
    let masked = text;
    for (const [found, word] of this.#fixed) masked = masked.replaceAll(found, word);
    return masked
      .replace(/\bj[a-z2-7]{26}\b/g, (id) => this.#named("job", id))
      .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/g, "<uuid>")
      .replace(/\b[0-9a-f]{64}\b/g, (hash) => this.#named("sha256", hash))
      .replace(/\b[0-9a-f]{32}\b/g, (id) => this.#named("id", id))
      .replace(/\b\d{13}-\d+\b/g, "<entry>")
      .replace(/\b\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?Z/g, "<time>")
      .replace(/\b1[6-9]\d{11}(?:\.\d+)?(?=x |\b)/g, "<ms>")
      .replace(/\bapi-[\w-]+-\d+\b/g, "<api>")
      .replace(/127\.0\.0\.1:\d+/g, "<address>");
  }

  value(value: unknown, name = ""): unknown {
    // Measured from time to time, so perhaps not yet there.
    if (/^(?:usage|load)$|percent$/i.test(name) || (name === "resources" && isUse(value))) return "<measured>";
    // How often a drain checks whether its node is empty depends on how fast the node becomes empty.
    if (name === "wave" && typeof value === "number" && value > 2) return "<later>";
    if (name !== "" && MEASURED.test(name) && !ASKED.test(name) && value !== null && typeof value !== "object")
      return `<${typeof value}>`;
    // The text behind the hash differs from run to run, and the hash is compared with nothing here.
    if (name === "bodyHash" && value !== "") return "<sha256>";
    if (typeof value === "string") return this.#inner(value);
    if (Array.isArray(value)) return value.map((each) => this.value(each));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [this.text(key), this.value(each, key)] as const),
    );
  }

  /** Parses a text that is JSON itself, so that its fields are masked by their names. */
  #inner(text: string): unknown {
    if (!/^[[{]/.test(text)) return this.text(text);
    try {
      return { json: this.value(JSON.parse(text)) };
    } catch {
      return this.text(text);
    }
  }

  #named(kind: string, id: string): string {
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    const name = `<${kind} ${count}>`;
    this.#names.set(id, name);
    return name;
  }
}

/** What a stitch uses, not what its spec reserves. */
const isUse = (value: unknown): boolean => value === null || (typeof value === "object" && "cpuPercent" in value);

const sorted = (values: readonly unknown[]): unknown[] =>
  values.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));

/** Every key with its type and its value; for BullMQ's own keys and for measurements, only the name and the type. */
export async function keysIn(redis: RedisClient, cluster: string, mask: Mask): Promise<Record<string, unknown>> {
  const found: [string, unknown][] = [];
  for (const key of await redis.keys(`cs:${cluster}:*`)) {
    const type = await redis.type(key);
    // A key of BullMQ that is there only for a moment.
    if (key.endsWith(":stalled-check")) continue;
    const isNameEnough = /\{node:[^}]+\}:(?:commands|usage)/.test(key);
    found.push([mask.text(key), isNameEnough ? { type } : { type, holds: await held(redis, key, type, mask) }]);
  }
  return Object.fromEntries(found.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

async function held(redis: RedisClient, key: string, type: string, mask: Mask): Promise<unknown> {
  switch (type) {
    case "string":
      return mask.value(await redis.get(key));
    case "hash": {
      const fields = Object.entries(await redis.hgetall(key)).map(
        ([name, value]) => [mask.text(name), mask.value(value, name)] as const,
      );
      return Object.fromEntries(fields.toSorted(([a], [b]) => (a < b ? -1 : 1)));
    }
    case "set":
      return sorted((await redis.smembers(key)).map((each) => mask.value(each)));
    case "zset":
      return sorted((await redis.zrange(key, "0", "-1")).map((each) => mask.value(each)));
    case "list":
      return (await redis.lrange(key, 0, -1)).map((each) => mask.value(each));
    case "stream":
      return sorted(
        (await redis.xrange(key, "-", "+"))
          .filter(([, fields]) => !fields.some(isProgress))
          .map(([, fields]) => fields.map((each) => mask.value(each))),
      );
    default:
      throw new Error(`a key of type ${type}`);
  }
}

/** The number of progress events of a job depends on how fast it runs. */
export const isProgress = (event: string): boolean => event.includes('"job.progressed"');

type Line = {
  readonly kind: string;
  readonly id?: string;
  readonly record?: { readonly id: string; readonly pid?: number };
};

/**
 * The last line of a journal about each thing, sorted: what is done at the same time comes in any order, and whether a state in
 * between has its own line is a matter of milliseconds.
 */
export function lastLinesIn(path: string, mask: Mask): unknown[] {
  const lines = readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Line);
  const keyOf = ({ kind, id, record }: Line) =>
    kind.startsWith("launch") ? `launch ${record?.pid}` : (id ?? record?.id ?? kind);
  return sorted([...new Map(lines.map((line) => [keyOf(line), line])).values()].map((line) => mask.value(line)));
}

export const goldenPath = (name: string): string => join(root, "test/golden", `${name}.json`);
