// Instead of the package `semver`: BullMQ compares the version of Redis with it, which is always plain numbers here, because it is told
// not to ask for it (`skipVersionCheck`) and takes a constant of its own.

const NUMBERS = /^\d+\.\d+\.\d+$/;

export function coerce(version: string): string {
  if (!NUMBERS.test(version)) throw new Error(`infra/edge/semver.ts reads only versions like 1.2.3, not ${version}`);
  return version;
}

export const valid = coerce;

/** Is `one` lower than `other`? */
export function lt(one: string, other: string): boolean {
  const [left, right] = [numbersOf(one), numbersOf(other)];
  const at = left.findIndex((part, index) => part !== right[index]);
  return at !== -1 && (left[at] ?? 0) < (right[at] ?? 0);
}

const numbersOf = (version: string): number[] => coerce(version).split(".").map(Number);
