import fc from "fast-check";

/** Places at which to cut a stream of any length. 0 twice makes an empty chunk. */
export const cuts = fc.array(fc.nat(), { maxLength: 20 });

export function cutAt(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const at = places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
  return [0, ...at].map((from, n) => bytes.subarray(from, at[n] ?? bytes.length));
}

/** Each byte by itself, in an array that the next byte overwrites: a reader may keep only copies of a chunk. */
export function* byteByByte(bytes: Uint8Array): Generator<Uint8Array, void> {
  const chunk = new Uint8Array(1);
  for (const byte of bytes) {
    chunk[0] = byte;
    yield chunk;
  }
}
