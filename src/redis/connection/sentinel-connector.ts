import { type SentinelConnectionOptions, SentinelConnector } from "ioredis";

type Connect = SentinelConnector["connect"];

/**
 * Finds the primary through Sentinel, as often as it takes.
 *
 * ioredis keeps the failover detector of a lost connection while it looks for the primary anew. Told of the failover just
 * then, the detector cuts off the very attempt that finds the new primary, and ioredis takes that for a connection closed
 * on purpose: it is never opened again. So here a detector ends with the connection it watches.
 */
export class PrimaryConnector extends SentinelConnector {
  constructor(options: unknown) {
    super(options as SentinelConnectionOptions);
  }

  override async connect(onError: Parameters<Connect>[0]): ReturnType<Connect> {
    const stream = await super.connect(onError);
    // Only once it stands there is a detector for it.
    stream.once("connect", () => stream.once("close", () => this.#endDetector()));
    return stream;
  }

  #endDetector(): void {
    const detector: { cleanup(): void } | null = this["failoverDetector"];
    detector?.cleanup();
  }
}
