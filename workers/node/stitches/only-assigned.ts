import { fullId } from "../../../src/domain/names/ids.ts";
import type { RemovedRecord, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Orders } from "../../../src/master/ports.ts";
import type { Specs } from "./specs.ts";
import type { StitchHost } from "./stitch-host.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

type Published = { readonly stitches: readonly StitchRecord[]; readonly removed: readonly RemovedRecord[] };

type AsAssignedOptions = {
  readonly node: string;
  readonly host: Pick<StitchHost, "wouldTake">;
  readonly registry: Pick<StitchRegistry, "withoutSpec">;
  readonly orders: Pick<Orders, "assigned">;
  readonly specs: Pick<Specs, "bring">;
  /**
   * Called for each stitch that no Master has assigned to this node,
   * each unreadable assignment, and each spec that is not accepted.
   */
  readonly onError: (error: unknown) => void;
};

/**
 * The stitches of a node in Redis, to be merged with its disk. A record in Redis says how a stitch is; it is not an order
 * to run the stitch. The spec, group and placement come from the store, as Masters have assigned them. A stitch that no
 * Master has assigned is left out. A stitch on disk that has lost its spec gets it back in the same way.
 * @throws if Redis does not answer.
 */
export async function onlyAssigned(
  published: Published,
  { node, host, registry, orders, specs, onError }: AsAssignedOptions,
): Promise<Published> {
  const wanted = published.stitches.filter((record) => host.wouldTake(record));
  const withoutSpec = registry.withoutSpec();
  if (wanted.length === 0 && withoutSpec.length === 0) return { ...published, stitches: [] };
  const ids = new Set([...wanted, ...withoutSpec].map(({ id }) => id));
  const assigned = await orders.assigned([...ids], onError);
  const ofThat = ({ id, born }: StitchRecord) => assigned.get(id)?.find((each) => each.born === born && !each.isOver);
  const stitches = wanted.flatMap((record) => {
    const found = ofThat(record);
    if (found === undefined) {
      onError(
        new Error(
          `Redis shows a stitch ${fullId(node, record.id)} that no Master has assigned to this node; it is not started. ` +
            `Where Redis is older than that stitch: stitch adopt ${node}, then start this worker again`,
        ),
      );
      return [];
    }
    const { specHash, group, placement } = found;
    return [{ ...record, specHash, group, placement }];
  });
  const lost = withoutSpec.filter((record) => ofThat(record)?.specHash === record.specHash);
  const refused = await specs.bring([...stitches, ...lost].map(({ specHash }) => specHash));
  for (const [hash, { message }] of refused)
    onError(new Error(`${node} cannot run what has the spec ${hash}: ${message}`));
  return { ...published, stitches };
}
