import { type Client, createClient } from "../../client/client.ts";
import { loadConfig } from "../../config.ts";
import type { Kind, Suggestion } from "./suggest.ts";

/** Longer, and whoever pressed Tab wonders what is wrong. */
const LIMIT_MS = 1000;
/** More do not fit on a screen. */
const MOST = 1000;

/** Ids of nodes, stitches or groups from the API; none if it does not answer within a second. */
export async function askIds(kind: Kind, current: string, url: string | null): Promise<readonly Suggestion[]> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  try {
    const config = loadConfig(url === null ? process.env : { ...process.env, STITCH_URL: url });
    const client = createClient({ url: config.url, token: config.token?.reveal() ?? null });
    return await ASK[kind](client, current, signal);
  } catch {
    // A message would be drawn into the line that is being typed; the command itself will say what is wrong.
    return [];
  }
}

type Ask = (client: Client, current: string, signal: AbortSignal) => Promise<readonly Suggestion[]>;

const ASK: Readonly<Record<Kind, Ask>> = {
  node: async (client, _, signal) =>
    (await client.nodes({ limit: MOST }, { signal })).items.map(({ id, liveness }) => ({ value: id, text: liveness })),
  group: async (client, _, signal) =>
    (await client.groups({ limit: MOST }, { signal })).items.map(({ group }) => ({ value: group, text: "group" })),
  stitch: async (client, current, signal) => {
    const node = /^(.+):/.exec(current)?.[1];
    const { items } = await client.stitches({ node, limit: MOST }, { signal });
    const told = items.map(({ id, fullId, group, state }) => ({ id, value: fullId, text: `${group}, ${state}` }));
    // Bare ids only for who types one: else each stitch would be listed twice.
    const bare = current === "" ? [] : told.map(({ id, text }) => ({ value: id, text }));
    const single = bare.filter(({ value }) => bare.filter((each) => each.value === value).length === 1);
    return [...told.map(({ value, text }) => ({ value, text })), ...single];
  },
};
