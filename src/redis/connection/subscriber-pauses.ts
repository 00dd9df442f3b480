import type { Cluster, Redis } from "ioredis";

/** The first pause. It doubles after each further connection that did not last, up to `MOST_MS`. */
const FIRST_MS = 50;
const MOST_MS = 2000;
/** A connection that lived this long was not a failed attempt. */
const LASTED_MS = 5000;

/** The private part of ioredis that has the one subscribed connection of a Cluster. */
type Subscriber = { onSubscriberEnd: () => void; getInstance(): Redis | null };

/**
 * Makes a Cluster pause before it subscribes through another of its nodes. ioredis tries the next node as soon as a connection
 * has ended. If all nodes refuse it, for example while Redis reloads its users, it makes hundreds of connections a second.
 */
export function pauseBetweenSubscribers(cluster: Cluster): void {
  // ioredis keeps this part private, and has no option for the pause. Its version is pinned, and a test counts the connections.
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
      // ioredis may have opened another connection meanwhile, because a node came or went.
      if (subscriber.getInstance()?.status === "end") takeAnother();
    }, pauseMs);
  };
  cluster.on("end", () => clearTimeout(timer));
}
