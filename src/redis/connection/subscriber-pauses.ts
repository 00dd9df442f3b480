import type { Cluster, Redis } from "ioredis";

/** The first pause, and twice as long after each further connection that did not last, up to the most. */
const FIRST_MS = 50;
const MOST_MS = 2000;
/** One that lived for so long was no failed attempt. */
const LASTED_MS = 5000;

/** What ioredis has for the one connection of a Cluster that listens. */
type Subscriber = { onSubscriberEnd: () => void; getInstance(): Redis | null };

/**
 * Has a Cluster pause before it listens through another of its nodes. ioredis takes the next one as soon as a connection has
 * ended: where they all refuse it, as while the users of a Redis are loaded anew, that is hundreds of connections a second.
 */
export function pauseBetweenSubscribers(cluster: Cluster): void {
  // ioredis keeps it private, and has no option for the pause. Its version is pinned, and a test counts the connections.
  const subscriber = Reflect.get(cluster, "subscriber") as unknown as Subscriber;
  const takeAnother = subscriber.onSubscriberEnd;
  let timer: NodeJS.Timeout | undefined;
  let pauseMs = FIRST_MS;
  let lastAtMs = Number.NEGATIVE_INFINITY;
  subscriber.onSubscriberEnd = () => {
    const nowMs = performance.now();
    pauseMs = nowMs - lastAtMs > LASTED_MS ? FIRST_MS : Math.min(MOST_MS, 2 * pauseMs);
    lastAtMs = nowMs;
    clearTimeout(timer);
    timer = setTimeout(() => {
      // Another may have been taken meanwhile, for a node that came or went.
      if (subscriber.getInstance()?.status === "end") takeAnother();
    }, pauseMs);
  };
  cluster.on("end", () => clearTimeout(timer));
}
