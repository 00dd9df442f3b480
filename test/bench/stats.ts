/** The summary of a row of measurements. Times in milliseconds. */
export type Timing = {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
};

/** The value below which the share `q` of `values` lies. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Does `work` `count` times, `concurrency` of them at once. */
export async function measure(
  concurrency: number,
  count: number,
  work: (index: number) => Promise<unknown>,
): Promise<Timing> {
  const times: number[] = [];
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const from = performance.now();
      await work(index);
      times.push(performance.now() - from);
    }
  };
  const from = performance.now();
  await Promise.all(Array.from({ length: concurrency }, one));
  const perSecond = (count * 1000) / (performance.now() - from);
  return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), perSecond };
}

/** One figure over several rounds: the median. */
export const over = (rounds: readonly Timing[], figure: keyof Timing): number =>
  median(rounds.map((round) => round[figure]));

/** The ratio of `ours` to `base`: the median of the ratios of each round. */
export const ratio = (ours: readonly Timing[], base: readonly Timing[], figure: keyof Timing): number =>
  median(ours.map((round, index) => round[figure] / (base[index]?.[figure] ?? Number.NaN)));

export const ms = (value: number): string => value.toFixed(value < 10 ? 3 : 1);
export const times = (value: number): string => `${value.toFixed(2)}x`;

/** Aligns columns, the first to the left, the others to the right. The first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  "),
    )
    .join("\n");
}
