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

/** A spec that no stitch has is kept for so long after a step has last brought it: that may still be under way. */
const UNUSED_KEPT_MS = 3_600_000;

export type SpecsOptions = {
  /** The node's folder. */
  readonly dir: string;
  readonly orders: Pick<Orders, "spec">;
  readonly publishing: Pick<Publishing, "missingSpecs" | "offerSpecs">;
  readonly steadyNowMs: () => number;
  /** Told of what cannot be read, or deleted. */
  readonly onError: (error: unknown) => void;
};

type Held = { readonly spec: StitchSpec; readonly sinceMs: number };

/**
 * The specs that this node may run: those that a Master has stored, each in `specs/<SHA-256>` on its disk. This is the one
 * door through which a program comes to the node: what runs is a text with the hash that its stitch names, and it has come
 * from the store for a task that this node had claimed, or for a stitch that Masters have assigned to it.
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

  /** Takes in what is on the disk. What is there under a name that it does not have is told of, and left out. */
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

  /** What this node may run under that name; null where it has not been let in. */
  find(hash: string): StitchSpec | null {
    return this.#held.get(hash)?.spec ?? null;
  }

  /**
   * Brings specs in that a Master has stored; one that is here already is not asked for.
   * @returns why not, by hash, of those that are not let in. @throws where Redis does not answer.
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
      // A step is about to need it.
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
      // Somebody may have deleted it.
      await answered(
        this.#dir,
        STATE_FILES.run(() => mkdir(this.#dir, { recursive: true, mode: FOLDER_MODE })),
      );
      // Before anything refers to it: the next life must find it.
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
   * Offers those of the specs that the store has not, in case Redis came back empty or older: once the node is adopted, Masters
   * have them again.
   * @param inUse the hashes that its stitches name.
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
      // The others are offered all the same.
      const text = await answered(path, read).catch(this.#options.onError);
      if (typeof text === "string") texts.set(hash, text);
    }
    await publishing.offerSpecs(texts);
    this.#hasOffered = texts.size > 0;
  }

  /** Deletes those that no stitch has any more. @param inUse tells the hashes that its stitches name by now. */
  async prune(inUse: () => ReadonlySet<string>): Promise<void> {
    const beforeMs = this.#options.steadyNowMs() - UNUSED_KEPT_MS;
    const isUnused = (hash: string) => !inUse().has(hash) && (this.#held.get(hash)?.sinceMs ?? 0) <= beforeMs;
    for (const hash of [...this.#held.keys()].filter(isUnused)) {
      // It may have been needed while others were deleted.
      if (!isUnused(hash)) continue;
      this.#held.delete(hash);
      // In the order of what is written there: one that comes again must stay.
      await STATE_FILES.run(() => rm(join(this.#dir, hash), { force: true }));
    }
  }
}

/** Thrown where a text is not the spec that its name says. */
class NotTheSpec extends Error {
  override readonly name = "NotTheSpec";
}

/** The one check of what may run here. @throws NotTheSpec */
function checked(hash: string, text: string): StitchSpec {
  if (createHash("sha256").update(text).digest("hex") !== hash)
    throw new NotTheSpec(`what is kept under the name of the spec ${hash} is another text; it is not run`);
  try {
    return stitchSpec.parse(JSON.parse(text));
  } catch (cause) {
    throw new NotTheSpec(`the spec ${hash} is none that this version of CrossStitch reads`, { cause });
  }
}
