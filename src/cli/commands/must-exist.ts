import type { ClientContext } from "../calls/client-action.ts";
import { withRetries } from "../calls/retry.ts";

/** The filters of a list; undefined: no filter. */
type Filters = {
  readonly node?: string | undefined;
  readonly group?: string | undefined;
  readonly stitch?: string | undefined;
};

/**
 * For an empty list: checks that the things named by its filters exist, because a typing error would look like an answer.
 * @throws ApiError `not_found`.
 */
export async function mustExist(
  { client, signal }: Pick<ClientContext, "client" | "signal">,
  { node, group, stitch }: Filters,
): Promise<void> {
  if (node !== undefined) await withRetries(() => client.node(node, { signal }), signal);
  if (group !== undefined) await withRetries(() => client.group(group, { signal }), signal);
  if (stitch !== undefined) await withRetries(() => client.stitch(stitch, { signal }), signal);
}
