import { type SentinelConnectionOptions, SentinelConnector } from "ioredis";

type Connect = SentinelConnector["connect"];

/**
 * Finds the primary through Sentinel, as often as needed.
 *
 * ioredis keeps the failover detector of a lost connection while it looks for the primary again. If the detector hears of
 * the failover at that moment, it cuts off the attempt that finds the new primary. ioredis takes that for a connection that
 * was closed on purpose, and never opens it again. So here a detector ends with the connection that it watches.
 */
export class PrimaryConnector extends SentinelConnector {
  constructor(options: unknown) {
    super(options as SentinelConnectionOptions);
  }

  override async connect(onError: Parameters<Connect>[0]): ReturnType<Connect> {
    const stream = await super.connect(onError);
    // The detector exists only after the connection is established.
    stream.once("connect", () => stream.once("close", () => this.#endDetector()));
    return stream;
  }

  #endDetector(): void {
    const detector: { cleanup(): void } | null = this["failoverDetector"];
    detector?.cleanup();
  }
}
