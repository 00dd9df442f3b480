import type { Place, StartThrottle } from "./start-throttle.ts";
import type { StitchDisk } from "./stitch-disk.ts";

/** The place for a start, and the data folder or the reason why there is none. */
export type Ready = { readonly place: Place; readonly dataDir: PromiseSettledResult<string> };

type WaitOptions = {
  readonly id: string;
  readonly starts: Pick<StartThrottle, "ask">;
  readonly disk: Pick<StitchDisk, "makeDataDir">;
  /** See `EventLoopThrottle.next`. */
  readonly nextTurn: () => Promise<void>;
  /** Resolves when a newer step waits. */
  readonly interrupted: Promise<void>;
};

/** Waits for a place, then for the data folder and a turn of the event loop; null if the wait was interrupted. */
export async function waitToStart({ id, starts, disk, nextTurn, interrupted }: WaitOptions): Promise<Ready | null> {
  const place = starts.ask();
  void interrupted.then(() => place.giveBack());
  // Other starts that are interrupted at the same moment pass their
  // places on, and this start gives such a place back at once.
  if (!(await place.granted) || !place.isHeld) return null;
  const readied = readyIn(place, disk, id).then(async (ready) => {
    await nextTurn();
    return ready;
  });
  const ready = await Promise.race([readied, interrupted]);
  return place.isHeld && ready !== undefined ? ready : null;
}

/** Makes the data folder. Never rejects: if there is no folder, the launch fails. */
export async function readyIn(place: Place, disk: Pick<StitchDisk, "makeDataDir">, id: string): Promise<Ready> {
  const [dataDir] = await Promise.allSettled([disk.makeDataDir(id)]);
  return { place, dataDir };
}
