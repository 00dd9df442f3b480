import type { EventResource } from "../contract/event.ts";
import { ApiError } from "./errors.ts";
import { follow, type FollowCall } from "./follow.ts";
import type { Transport } from "./request.ts";

export type FollowOptions = FollowCall & {
  /** Comma-separated; `node.*` takes a family. */
  readonly type?: string | undefined;
  readonly node?: string | undefined;
  readonly group?: string | undefined;
  /** Id of the last event already seen, or a time (ISO 8601) from which on (default: from now on). */
  readonly since?: string | undefined;
  /** Called when events were missed: the API no longer has the ones after the last that was seen. */
  readonly onGap?: () => void;
};

/**
 * The cluster's events as they happen, for as long as the caller iterates. A lost connection is taken up again after the
 * last event that was seen, so no event comes twice, and none is missed without `onGap`.
 * @throws ApiUnreachable when nothing answers at first, or later for `giveUpAfterMs`; ApiError (`events_gone` where `since` was trimmed).
 */
export async function* followEvents(
  transport: Transport,
  { type, node, group, since, onGap, ...call }: FollowOptions,
): AsyncGenerator<EventResource> {
  const isGap = (error: unknown): boolean => error instanceof ApiError && error.code === "events_gone";
  const followed = { path: "/v1/events", query: { type, node, group }, since, isGap, onGap };
  for await (const sent of follow(transport, followed, call)) {
    // A reader that fell behind is let go, and begins anew after the last event it has seen.
    if (sent.event !== "gap") yield JSON.parse(sent.data) as EventResource;
  }
}
