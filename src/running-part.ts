/** A part of the cluster (the API, a node worker, a master worker) that has started in this process. */
export type RunningPart = {
  /** One line for people: what runs, and where. */
  readonly ready: string;
  /** Resolves if the part can do its work now: it reaches a Redis that takes writes, and a node is in the cluster. Else rejects. */
  readonly works: () => Promise<void>;
  /** Ends the part in good order. May be called twice, also at the same time. The part itself limits how long this takes. */
  stop(): Promise<void>;
  /** Releases everything at once, without waiting: for a second signal. */
  kill(): void;
  /** Resolves when the part has ended. Rejects with the reason if the part ended by itself and should not have. */
  readonly ended: Promise<void>;
};
