import { type StitchSpec, type StoredSpec, stitchSpec } from "../../domain/stitch/spec.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import { readOffers, readSpecTexts } from "../../redis/stitch/specs.ts";
import { type OnUnreadable, readField } from "../../redis/unreadable.ts";
import { sha256Hex } from "../../domain/json/digest.ts";

/** A spec as it goes to the store: its text, and the hash that names it. */
export async function toBeStored(spec: StitchSpec): Promise<StoredSpec> {
  const text = JSON.stringify(spec);
  return { specHash: await sha256Hex(text), spec, text };
}

/** Reads specs for Masters. A spec that is not in the store, or that cannot be read, is not known. */
export class SpecStore {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #onUnreadable: OnUnreadable;

  constructor(redis: RedisClient, keys: Keys, onUnreadable: OnUnreadable) {
    this.#redis = redis;
    this.#keys = keys;
    this.#onUnreadable = onUnreadable;
  }

  /** The known ones of these specs, by hash. One round trip. */
  async read(hashes: Iterable<string>): Promise<Map<string, StitchSpec>> {
    const asked = [...new Set(hashes)];
    const texts = await readSpecTexts(this.#redis, this.#keys, asked, this.#onUnreadable);
    return new Map(
      asked.flatMap((hash, index) => {
        const spec = this.#parsed(hash, texts[index] ?? null);
        return spec === null ? [] : [[hash, spec] as const];
      }),
    );
  }

  /** The spec of a stitch, for showing it: from the store, otherwise from its node's offers; null if neither has it. */
  async shown(node: string, hash: string): Promise<StitchSpec | null> {
    const known = (await this.read([hash])).get(hash);
    if (known !== undefined) return known;
    const offers = await readOffers(this.#redis, this.#keys, node, [hash]);
    return (await this.checked(hash, offers.get(hash) ?? null))?.spec ?? null;
  }

  /** Checks a spec's text that may not come from a Master; null if it does not match the hash, or cannot be read. */
  async checked(hash: string, text: string | null): Promise<StoredSpec | null> {
    if (text === null || (await sha256Hex(text)) !== hash) return null;
    const spec = this.#parsed(hash, text);
    return spec === null ? null : { specHash: hash, spec, text };
  }

  #parsed(hash: string, text: string | null): StitchSpec | null {
    const at = { id: `spec ${hash}`, key: this.#keys.spec(hash), field: "*" };
    return text === null ? null : readField(stitchSpec, text, at, this.#onUnreadable);
  }
}
