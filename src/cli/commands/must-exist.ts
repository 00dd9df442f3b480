import type { ClientContext } from "../calls/client-action.ts";
import { withRetries } from "../calls/retry.ts";

/** What a list was asked about; undefined: not asked about. */
type Filters = {
  readonly node?: string | undefined;
  readonly group?: string | undefined;
  readonly stitch?: string | undefined;
};

/** Of a list that is empty: what it was asked about must be there, or a typing error looks like an answer. @throws ApiError `not_found`. */
export async function mustExist(
  { client, signal }: Pick<ClientContext, "client" | "signal">,
  { node, group, stitch }: Filters,
): Promise<void> {
  if (node !== undefined) await withRetries(() => client.node(node, { signal }), signal);
  if (group !== undefined) await withRetries(() => client.group(group, { signal }), signal);
  if (stitch !== undefined) await withRetries(() => client.stitch(stitch, { signal }), signal);
}
