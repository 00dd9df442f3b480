/** A part of the cluster (the API, a node worker, a master worker) that has started in this process. */
export type Running = {
  /** One line for people: what runs, and where. */
  readonly ready: string;
  /** Ends the part in good order. May be called twice and at once; bounded by the part itself. */
  stop(): Promise<void>;
  /** Lets go of everything at once, without waiting: for a second signal. */
  kill(): void;
  /** Resolves when the part has ended, rejects with the reason where it ended by itself and should not have. */
  readonly ended: Promise<void>;
};
