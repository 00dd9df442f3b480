/** What a benchmark gets. */
export type Bench = {
  /** TCP. Empty at the start of each benchmark. */
  readonly redisUrl: string;
  readonly rounds: number;
  readonly print: (line: string) => void;
  /** Registers a function that ends something the benchmark has started. The last one runs first. */
  readonly atEnd: (end: () => Promise<void>) => void;
};
