import { cpus, freemem, totalmem } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { NodeLoad } from "../../../src/domain/node/node.ts";

/** Measures the machine's CPU and memory and this process's event loop, each over the time since the last call. */
export class LoadMeter {
  readonly #delay = monitorEventLoopDelay({ resolution: 20 });
  #last = cpuTimes();

  constructor() {
    this.#delay.enable();
  }

  measure(): NodeLoad {
    const now = cpuTimes();
    const total = now.total - this.#last.total;
    const busy = total - (now.idle - this.#last.idle);
    this.#last = now;
    // The monitor counts its own resolution as delay.
    const delayMs = Math.max(0, this.#delay.percentile(99) / 1e6 - 20);
    this.#delay.reset();
    return {
      cpuPercent: total > 0 ? Math.round((1000 * busy) / total) / 10 : 0,
      memoryBytes: totalmem() - freemem(),
      eventLoopDelayMs: Number.isFinite(delayMs) ? Math.round(delayMs * 10) / 10 : 0,
    };
  }

  stop(): void {
    this.#delay.disable();
  }
}

function cpuTimes(): { idle: number; total: number } {
  let idle = 0;
  let total = 0;
  for (const { times } of cpus()) {
    idle += times.idle;
    total += times.user + times.nice + times.sys + times.idle + times.irq;
  }
  return { idle, total };
}
