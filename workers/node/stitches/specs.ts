import { createHash } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { specHash, type StitchSpec, stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StepError } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Orders, Publishing } from "../../../src/master/ports.ts";
import { answered, STATE_FILES } from "../files/bounded-files.ts";
import { FOLDER_MODE, readOwnFile, replaceOwnFile } from "../files/own-files.ts";

/** How long an unused spec is kept after the last step that needed it, because that step may still be in progress. */
const UNUSED_KEPT_MS = 3_600_000;

export type SpecsOptions = {
  /** The node's folder. */
  readonly dir: string;
  readonly orders: Pick<Orders, "spec">;
  readonly publishing: Pick<Publishing, "missingSpecs" | "offerSpecs">;
  readonly steadyNowMs: () => number;
  /** Called when a spec cannot be read or deleted. */
  readonly onError: (error: unknown) => void;
};

type Held = { readonly spec: StitchSpec; readonly sinceMs: number };

/**
 * The specs that this node may run: specs that a Master has stored, each in `specs/<SHA-256>` on the node's disk.
 *
 * A program reaches the node only through this class. The node runs a text only if its hash is the one
 * that the stitch names. The text comes from the store, for a task that the node has claimed or for a
 * stitch that Masters have assigned to it.
 */
export class Specs {
  readonly #options: SpecsOptions;
  readonly #dir: string;
  readonly #held = new Map<string, Held>();
  readonly #coming = new Map<string, Promise<StepError | null>>();
  #hasOffered = false;

  constructor(options: SpecsOptions) {
    this.#options = options;
    this.#dir = join(options.dir, "specs");
  }

  /** Reads the specs on disk. A file whose content does not match its name is reported and left out. */
  load(): void {
    mkdirSync(this.#dir, { recursive: true, mode: FOLDER_MODE });
    for (const hash of readdirSync(this.#dir)) {
      if (!specHash.safeParse(hash).success) continue;
      try {
        const text = readOwnFile(join(this.#dir, hash))?.toString();
        if (text !== undefined) this.#admit(hash, text);
      } catch (error) {
        this.#options.onError(error);
      }
    }
  }

  /** The spec with this hash; null if the node has not accepted it. */
  find(hash: string): StitchSpec | null {
    return this.#held.get(hash)?.spec ?? null;
  }

  /**
   * Fetches specs that a Master has stored. A spec that is on this node already is not fetched again.
   * @returns the reason for each spec that is not accepted, by hash. @throws if Redis does not answer.
   */
  async bring(hashes: Iterable<string>): Promise<Map<string, StepError>> {
    const refused = new Map<string, StepError>();
    await Promise.all(
      [...new Set(hashes)].map(async (hash) => {
        const error = await this.#bringOne(hash);
        if (error !== null) refused.set(hash, error);
      }),
    );
    return refused;
  }

  async #bringOne(hash: string): Promise<StepError | null> {
    const held = this.#held.get(hash);
    if (held !== undefined) {
      // A step is about to need this spec.
      this.#held.set(hash, { ...held, sinceMs: this.#options.steadyNowMs() });
      return null;
    }
    const coming = this.#coming.get(hash) ?? this.#fetch(hash).finally(() => this.#coming.delete(hash));
    this.#coming.set(hash, coming);
    return coming;
  }

  async #fetch(hash: string): Promise<StepError | null> {
    const text = await this.#options.orders.spec(hash, this.#options.onError);
    if (text === null) return { code: "spec_unknown", message: `its spec is not stored any more: ${hash}` };
    try {
      checked(hash, text);
      // Someone may have deleted the folder.
      await answered(
        this.#dir,
        STATE_FILES.run(() => mkdir(this.#dir, { recursive: true, mode: FOLDER_MODE })),
      );
      // First, before anything refers to the spec: the next run of the worker must find it.
      await replaceOwnFile(join(this.#dir, hash), text);
      this.#admit(hash, text);
      return null;
    } catch (error) {
      return { code: error instanceof NotTheSpec ? "spec_unknown" : "internal", message: errorText(error) };
    }
  }

  #admit(hash: string, text: string): void {
    this.#held.set(hash, { spec: checked(hash, text), sinceMs: this.#options.steadyNowMs() });
  }

  /**
   * Offers the specs that the store does not have, in case Redis came back
   * empty or older. Masters have them again once the node is adopted.
   * @param inUse the hashes that the node's stitches name.
   */
  async offer(inUse: ReadonlySet<string>): Promise<void> {
    const { publishing } = this.#options;
    const own = [...inUse].filter((hash) => this.#held.has(hash));
    const missing = own.length === 0 ? [] : await publishing.missingSpecs(own);
    if (missing.length === 0 && !this.#hasOffered) return;
    const texts = new Map<string, string>();
    for (const hash of missing) {
      const path = join(this.#dir, hash);
      const read = STATE_FILES.run(() => readFile(path, "utf8"));
      // If one text cannot be read, the others are still offered.
      const text = await answered(path, read).catch(this.#options.onError);
      if (typeof text === "string") texts.set(hash, text);
    }
    await publishing.offerSpecs(texts);
    this.#hasOffered = texts.size > 0;
  }

  /** Deletes the specs that no stitch has any more. @param inUse returns the hashes that the stitches name at that moment. */
  async prune(inUse: () => ReadonlySet<string>): Promise<void> {
    const beforeMs = this.#options.steadyNowMs() - UNUSED_KEPT_MS;
    const isUnused = (hash: string) => !inUse().has(hash) && (this.#held.get(hash)?.sinceMs ?? 0) <= beforeMs;
    for (const hash of [...this.#held.keys()].filter(isUnused)) {
      // A step may have needed this spec while others were deleted.
      if (!isUnused(hash)) continue;
      this.#held.delete(hash);
      // In order with the writes to this folder: a spec that is fetched again must stay.
      await STATE_FILES.run(() => rm(join(this.#dir, hash), { force: true }));
    }
  }
}

/** Thrown when a text is not the spec that its hash names. */
class NotTheSpec extends Error {
  override readonly name = "NotTheSpec";
}

/** The only check of what may run on this node. @throws NotTheSpec */
function checked(hash: string, text: string): StitchSpec {
  if (createHash("sha256").update(text).digest("hex") !== hash)
    throw new NotTheSpec(`what is kept under the name of the spec ${hash} is another text; it is not run`);
  try {
    return stitchSpec.parse(JSON.parse(text));
  } catch (cause) {
    throw new NotTheSpec(`the spec ${hash} is none that this version of CrossStitch reads`, { cause });
  }
}
