import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import type { Config } from "../../../src/config.ts";
import { nodeId } from "../../../src/domain/names/ids.ts";
import { errorText } from "../../../src/error-text.ts";
import { NotOwn, readOwnFile, replaceOwnFile } from "../files/own-files.ts";

const kept = z.object({
  id: nodeId,
  /** The machine where the id was taken; null if that machine has no id. */
  machine: z.string().nullable(),
});
type Kept = z.output<typeof kept>;

export type NodeId = {
  readonly id: string;
  /** Stores the id for the next start. Call this when the node has started with it. Safe to repeat. */
  readonly keep: () => Promise<void>;
};

/**
 * The id of this node: `STITCH_NODE_ID`, else the id of its last start, else the host's name. A host that gets another name
 * keeps its node, with its stitches and their data; under a new id it would begin with nothing. The file is in
 * `<state>/<cluster>/`. If several machines share that folder, the stored id is only for the first one.
 * @param say called if the id is not the host's name, and if the file cannot be read or written.
 * @throws NotOwn if the file belongs to another user.
 */
export function nodeIdOf(
  {
    nodeId: id,
    nodeIdIsSet,
    stateDir,
    cluster,
  }: Pick<Config, "nodeId" | "nodeIdIsSet" | "cluster"> & { readonly stateDir: string },
  say: (message: string) => void,
  machine = readMachineId(),
): NodeId {
  const nothingToKeep = () => Promise.resolve();
  if (nodeIdIsSet) return { id, keep: nothingToKeep };
  const path = join(stateDir, cluster, "node-id.json");
  const before = readKept(path, say);
  const isAnothers = before !== null && before.machine !== null && machine !== null && before.machine !== machine;
  if (before === null) return { id, keep: () => write(path, { id, machine }, say) };
  if (isAnothers) return { id, keep: nothingToKeep };
  if (before.id !== id)
    say(
      `this node keeps the id ${before.id}, which it had before; by its host's name it would be ${id}. ` +
        `To give it that, set STITCH_NODE_ID=${id}, or delete ${path}`,
    );
  return { id: before.id, keep: nothingToKeep };
}

function readKept(path: string, say: (message: string) => void): Kept | null {
  try {
    const bytes = readOwnFile(path);
    return bytes === null ? null : kept.parse(JSON.parse(bytes.toString()));
  } catch (error) {
    if (error instanceof NotOwn) throw error;
    say(
      `${path} cannot be read (${errorText(error)}) and is written anew: this node's id is taken from the host's name`,
    );
    return null;
  }
}

/** Throws nothing: a node that has started must not end because of this. */
async function write(path: string, what: Kept, say: (message: string) => void): Promise<void> {
  try {
    await replaceOwnFile(path, JSON.stringify(what));
  } catch (error) {
    say(`the node's id is not kept for its next start: ${errorText(error)}`);
  }
}

/** The id of the system's installation; null if it has none, as in most containers. */
function readMachineId(): string | null {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim() || null;
  } catch {
    // Only Linux has this file, and not everywhere.
    return null;
  }
}
