/** A line at least this often while something is waited for: people take silence for a hang. */
const STILL_EVERY_MS = 3000;

/** Does `work`, and prints a line with the seconds it took: its name, or what `told` makes of its result. */
export type Step = <T>(name: string, work: () => Promise<T>, told?: (result: T) => string) => Promise<T>;

/** @param print takes a line. */
export function steps(print: (line: string) => void): Step {
  return async (name, work, told) => {
    const startedMs = performance.now();
    const seconds = (digits: number): string => `${((performance.now() - startedMs) / 1000).toFixed(digits)} s`;
    const still = setInterval(() => print(`still: ${name} …, ${seconds(0)}`), STILL_EVERY_MS);
    try {
      const result = await work();
      print(`${told?.(result) ?? name}  ${seconds(1)}`);
      return result;
    } finally {
      clearInterval(still);
    }
  };
}
