import * as z from "zod";

/** Lower-case DNS-label-like name: clusters, nodes and stitches. 1–63 characters, so it fits a host label and a folder name. */
const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const nameSchema = (what: string) =>
  z.string().regex(NAME, `a ${what} is 1 to 63 characters of a-z, 0-9 and "-", and does not begin with "-"`);

export const clusterName = nameSchema("cluster name");
/** Messages that are sent over HTTP come from `api`, so no node may have this id. */
export const nodeId = nameSchema("node id").refine((id) => id !== "api", 'the node id "api" is reserved');
export const stitchId = nameSchema("stitch id");

/** A stitch as a person names it: a bare id, or a full id `node:stitch`. */
export const stitchRef = z
  .string()
  .refine(
    (ref) => parseStitchRef(ref) !== null,
    'a stitch is named by its id ("orders-1") or its full id ("n1:orders-1")',
  );

type StitchRef = { readonly node: string | null; readonly stitch: string };

/** @returns null if `ref` is neither a bare nor a full id. */
export function parseStitchRef(ref: string): StitchRef | null {
  const colon = ref.indexOf(":");
  const node = colon < 0 ? null : ref.slice(0, colon);
  const stitch = ref.slice(colon + 1);
  const isRef = NAME.test(stitch) && (node === null || (node !== "api" && NAME.test(node)));
  return isRef ? { node, stitch } : null;
}

export const fullId = (node: string, stitch: string): string => `${node}:${stitch}`;

/** The parts of a full id that this system wrote itself. @throws if it is not a full id: a corrupt record, never user input. */
export function splitFullId(id: string): { node: string; stitch: string } {
  const ref = parseStitchRef(id);
  if (ref?.node == null) throw new Error(`not a full stitch id: ${JSON.stringify(id.slice(0, 80))}`);
  return { node: ref.node, stitch: ref.stitch };
}

/** A node id from a host name: its first label, lower case, other characters `-`. */
export function nodeIdFromHostname(hostname: string): string {
  const label = (hostname.split(".")[0] ?? "").toLowerCase().replace(/[^a-z0-9-]/g, "-");
  const id = label.replace(/^-+/, "").slice(0, 63);
  return id === "" || id === "api" ? "node" : id;
}

/** Leaves 15 digits of an id for the number. */
const GENERATED_BASE_LENGTH = 47;

/**
 * The beginning of generated ids of a component: the component's name, changed to the characters that an id may have.
 * Components with the same result share one counter.
 */
export function generatedIdBase(component: string): string {
  const folded = component
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, "-")
    .replace(/^-+/, "");
  return folded.slice(0, GENERATED_BASE_LENGTH) || "stitch";
}

/** A generated stitch id `<component>-<n>`. */
export const generatedStitchId = (component: string, n: number): string => `${generatedIdBase(component)}-${n}`;

/** Job ids: letters and digits only, because BullMQ refuses `a:b` and whole numbers as ids, and `.` separates attempts. */
const JOB_ID = /^j[a-z2-7]{26}$/;
export const jobId = z.string().regex(JOB_ID, 'a job id is "j" and 26 letters or digits');

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** A job id from at least 17 bytes: random ones, or the hash of a token and an idempotency key (RFC 4648 base32, 130 bits). */
export function jobIdFromBytes(bytes: Uint8Array): string {
  if (bytes.length < 17) throw new RangeError("a job id takes at least 17 bytes");
  let id = "j";
  let buffer = 0;
  let bits = 0;
  for (const byte of bytes.subarray(0, 17)) {
    buffer = ((buffer << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5 && id.length < 27) {
      bits -= 5;
      id += BASE32[(buffer >> bits) & 31];
    }
  }
  return id;
}
