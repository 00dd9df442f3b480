// Instead of the package `msgpackr`, of which BullMQ uses the writer, for the options of an entry: plain values, 200 bytes. The package
// also reads, compiles what it reads and streams, and is 12 kB of the bundle. The format: https://github.com/msgpack/msgpack.

const FLOAT64 = 0xcb;
const [UINT32, INT32] = [0xce, 0xd2];

/** As msgpackr's with `useRecords: false` and `encodeUndefinedAsNil: true`, the only way in which BullMQ makes one. */
export class Packr {
  /** @throws TypeError for what is not a plain value: a bigint, a function, a symbol. */
  readonly pack = (value: unknown): Buffer => Buffer.concat(parts(value));
}

function parts(value: unknown): Uint8Array[] {
  if (value === null || value === undefined) return [Buffer.of(0xc0)];
  if (typeof value === "boolean") return [Buffer.of(value ? 0xc3 : 0xc2)];
  if (typeof value === "number") return [number(value)];
  if (typeof value === "string") {
    const text = Buffer.from(value);
    return [head(text.length, { fixed: 0xa0, below: 32, wide: [0xd9, 0xda, 0xdb] }), text];
  }
  if (Array.isArray(value))
    return [head(value.length, { fixed: 0x90, below: 16, wide: [null, 0xdc, 0xdd] }), ...value.flatMap(parts)];
  if (typeof value !== "object") throw new TypeError(`infra/edge/msgpackr.ts writes plain values, no ${typeof value}`);
  const entries = Object.entries(value);
  return [head(entries.length, { fixed: 0x80, below: 16, wide: [null, 0xde, 0xdf] }), ...entries.flat().flatMap(parts)];
}

function number(value: number): Buffer {
  if (Number.isInteger(value) && !Object.is(value, -0)) {
    if (value >= -32 && value < 128) return Buffer.of(value & 0xff);
    if (value >= 0 && value < 2 ** 32) return sized(UINT32, 4, (bytes) => bytes.writeUInt32BE(value, 1));
    if (value < 0 && value >= -(2 ** 31)) return sized(INT32, 4, (bytes) => bytes.writeInt32BE(value, 1));
  }
  return sized(FLOAT64, 8, (bytes) => bytes.writeDoubleBE(value, 1));
}

type Heads = {
  readonly fixed: number;
  readonly below: number;
  /** For a length in one, two and four bytes. */
  readonly wide: readonly [number | null, number, number];
};

function head(length: number, { fixed, below, wide: [one, two, four] }: Heads): Buffer {
  if (length < below) return Buffer.of(fixed | length);
  if (one !== null && length < 2 ** 8) return Buffer.of(one, length);
  if (length < 2 ** 16) return sized(two, 2, (bytes) => bytes.writeUInt16BE(length, 1));
  return sized(four, 4, (bytes) => bytes.writeUInt32BE(length, 1));
}

function sized(mark: number, size: number, write: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(1 + size);
  bytes[0] = mark;
  write(bytes);
  return bytes;
}
