/** What a benchmark is given. */
export type Bench = {
  /** TCP. Empty at the start of each benchmark. */
  readonly redisUrl: string;
  readonly rounds: number;
  readonly print: (line: string) => void;
  /** Ends something that the benchmark has started; the last first. */
  readonly atEnd: (end: () => Promise<void>) => void;
};
