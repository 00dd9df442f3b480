import * as z from "zod";
import { StaleLeader } from "../domain/election.ts";
import type { Right } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import type { Keys } from "./keys.ts";
import { ELECTION } from "./leader-lease.ts";
import { inMode, modeArgs, WRONG_MODE } from "./master-mode.ts";

/**
 * Lua: compares the caller's right with the cluster's. The right is the first `RIGHT` arguments of the script: mode, preferred, the
 * lease's key, the election's id or ''. `no_right(mode's key)` returns false if it is current, else what the script must return:
 * `{'stale'}` if another leader has been elected, or none is, or see `WRONG_MODE`.
 * The lease's key is in the same slot. It is not declared: outside of the mode `leader` it may not exist.
 */
export const NO_RIGHT = `${WRONG_MODE}${ELECTION}
local RIGHT = 4
local function no_right(mode)
  local wrong = wrong_mode(mode, ARGV[1], ARGV[2])
  if wrong or ARGV[1] ~= 'leader' then return wrong end
  local current = current_election(ARGV[3])
  return not (current and current.id == ARGV[4]) and {'stale'}
end
`;

export const rightArgs = (keys: Keys, right: Right): string[] => [
  ...modeArgs(right),
  keys.leaderLease,
  right.election?.id ?? "",
];

const stale = z.tuple([z.literal("stale")]);

/**
 * Runs a script that compares the right.
 * @throws RequestError `wrong_mode` if the cluster has another mode; StaleLeader if the election is not the current one.
 */
export async function underRight(
  redis: RedisClient,
  keys: Keys,
  right: Right,
  call: () => Promise<unknown>,
): Promise<unknown> {
  const reply = await inMode(redis, keys, right, call);
  if (stale.safeParse(reply).success) throw new StaleLeader("another leader has been elected since, or none is");
  return reply;
}
