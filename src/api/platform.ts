import { type Config, ConfigError, loadConfig } from "../config.ts";
import { RequestError } from "../domain/errors.ts";
import { loggable } from "../error-log.ts";
import { asRequestError, RedisRefused } from "../redis/connection/connection.ts";
import { openBackend, type OpenBackend } from "./backend.ts";
import type { Access, PlatformLimits } from "./deps.ts";
import { longEnough } from "./token.ts";

/** A runtime that calls the API instead of being started by it: it has no start at which an error could be reported. */
export type Platform = {
  /** The Master's id in the jobs that this API accepts. */
  readonly masterId: string;
  /** null: it has none. */
  readonly limits: PlatformLimits | null;
  /** How the operator sets a setting, such as `wrangler secret put NAME`. */
  readonly howToSet: (setting: string) => string;
};

/** Less than the deadline of an answer (3 s), so that there is time left to answer. */
const CONNECT_MS = 2000;

export type ApiSettings = { readonly config: Config; readonly access: Access };

/**
 * The settings; without them, the error that answers every request. It is for the operator and contains no values. Such an API can be
 * reached from other machines, so a token is required.
 */
export function readSettings(
  env: Readonly<Record<string, unknown>>,
  { howToSet }: Platform,
): ApiSettings | RequestError {
  try {
    const texts = Object.entries(env).filter((pair): pair is [string, string] => typeof pair[1] === "string");
    const config = loadConfig(Object.fromEntries(texts));
    if (config.token === null)
      return new RequestError(
        "forbidden",
        `This API has no token, so it serves nobody: set STITCH_TOKEN (${howToSet("STITCH_TOKEN")}).`,
      );
    if (config.redisUrl === null)
      return new RequestError(
        "redis_unavailable",
        `This API knows of no Redis: set REDIS_URL (${howToSet("REDIS_URL")}).`,
      );
    if (config.masterModule !== null)
      throw new ConfigError("STITCH_MASTER: this API loads no module; run an API with `stitch api` for it");
    return { config, access: { kind: "token", token: longEnough(config.token.reveal()) } };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return misconfigured(error, howToSet);
  }
}

/** Connects to the cluster within 2 s. @throws RequestError, whose detail is for people. */
export async function connect(config: Config, platform: Platform, checkFirst: boolean): Promise<OpenBackend> {
  try {
    return await openBackend(config, {
      id: platform.masterId,
      wrap: null,
      connectTimeoutMs: CONNECT_MS,
      checkFirst,
      onError: (error) => console.warn(JSON.stringify({ error: loggable(error) })),
    });
  } catch (error) {
    if (error instanceof RedisRefused) throw misconfigured(error, platform.howToSet);
    const known = asRequestError(error);
    if (known instanceof RequestError) throw known;
    throw new RequestError(
      "redis_unavailable",
      "Redis cannot be reached from this API; the request can be sent again with the same Idempotency-Key.",
      {},
      { cause: error },
    );
  }
}

function misconfigured(cause: ConfigError | RedisRefused, howToSet: Platform["howToSet"]): RequestError {
  const [setting] = /^(REDIS_URL|STITCH_[A-Z_]+)/.exec(cause.message) ?? [];
  const next = setting === undefined ? "" : ` Change it: ${howToSet(setting)}.`;
  return new RequestError("internal", `This API is not set up right. ${cause.message}.${next}`, {}, { cause });
}
