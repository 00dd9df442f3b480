import type { ClientContext } from "../calls/client-action.ts";

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
  if (node !== undefined) await client.node(node, { signal });
  if (group !== undefined) await client.group(group, { signal });
  if (stitch !== undefined) await client.stitch(stitch, { signal });
}
