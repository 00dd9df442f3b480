import type { Publishing } from "../../../src/master/ports.ts";
import type { StitchUsage } from "../../../src/domain/stitch/stitch.ts";
import { orLate } from "../../../src/bounded-wait.ts";
import { DataFolders } from "./data-folders.ts";
import { ProcessTree } from "../processes/process-tree.ts";
import type { StitchDisk } from "./stitch-disk.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

/** How often the stitches are measured: a pass reads every process of the machine. */
const MEASURE_MS = 10_000;
/** Longest wait for a round of 200 folders, which normally takes milliseconds. */
const LOOK_MS = 1000;

type MeasurementsOptions = {
  readonly publishing: Pick<Publishing, "publishUsage">;
  readonly session: string;
  readonly disk: StitchDisk;
  readonly incarnation: () => number;
  /** Does this worker hold the lease, as far as it knows without asking Redis? */
  readonly holdsId: () => boolean;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/** Measures what a node's stitches use, and whether they keep data, and publishes it at a low rate. */
export class Measurements {
  readonly #options: MeasurementsOptions;
  readonly #tree: ProcessTree;
  readonly #folders: DataFolders;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(options: MeasurementsOptions) {
    this.#options = options;
    this.#tree = new ProcessTree(options.session);
    this.#folders = new DataFolders(options.disk);
  }

  /** Call this with each heartbeat, which must not wait for it. Does nothing until the next measurement is due. */
  async beat(registry: StitchRegistry): Promise<void> {
    if (this.#options.steadyNowMs() - this.#lastMs <= MEASURE_MS) return;
    this.#lastMs = this.#options.steadyNowMs();
    const usage = await this.#tree.measure(registry.processes(), performance.now());
    if (usage === null || !this.#options.holdsId()) return;
    const { publishing, incarnation } = this.#options;
    const ids = registry.ids();
    // The usage must not wait for a folder that does not answer.
    await orLate(this.#folders.look(ids), LOOK_MS);
    const published = new Map<string, StitchUsage>();
    for (const [id, { cpuPercent, memoryBytes }] of usage)
      published.set(id, { cpuPercent, memoryBytes, hasData: this.#folders.keeps(id) });
    for (const id of ids)
      if (!published.has(id) && this.#folders.keeps(id))
        published.set(id, { cpuPercent: null, memoryBytes: 0, hasData: true });
    await publishing.publishUsage(incarnation(), published, 3 * MEASURE_MS);
  }
}
