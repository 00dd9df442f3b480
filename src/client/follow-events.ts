import type { EventResource } from "../contract/event.ts";
import { ApiError } from "./errors.ts";
import { follow, type FollowCall } from "./follow.ts";
import { parse, type Transport } from "./request.ts";

export type FollowOptions = FollowCall & {
  /** Comma-separated types; `node.*` means a family of types. */
  readonly type?: string | undefined;
  readonly node?: string | undefined;
  readonly group?: string | undefined;
  /** Id of the last event already seen, or a time (ISO 8601) to start from (default: now). */
  readonly since?: string | undefined;
  /** Called when events were missed: the API no longer has the events after the last one seen. */
  readonly onGap?: () => void;
};

/**
 * The cluster's events as they happen, for as long as the caller iterates. After a lost connection, it continues after the
 * last event seen, so no event comes twice, and none is missed without `onGap`.
 * @throws ApiUnreachable or NotTheApi when the API is away at first, or later for `giveUpAfterMs`; ApiError (`events_gone` if
 *   `since` was trimmed).
 */
export async function* followEvents(
  transport: Transport,
  { type, node, group, since, onGap, ...call }: FollowOptions,
): AsyncGenerator<EventResource> {
  const isGap = (error: unknown): boolean => error instanceof ApiError && error.code === "events_gone";
  const followed = { path: "/v1/events", query: { type, node, group }, since, isGap, onGap };
  for await (const sent of follow(transport, followed, call)) {
    // The API disconnects a reader that fell behind; `follow` reconnects after the last event seen.
    if (sent.event !== "gap") yield parse(transport.url, sent.data, null) as EventResource;
  }
}
