import { ConfigError } from "../config.ts";

/** What can stand in `Authorization: Bearer …` (RFC 6750). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/** As `openssl rand -hex 16` makes it: nobody guesses that over a network. */
const MIN_LENGTH = 32;

/**
 * @param isReachable from other machines, whose guesses nothing limits.
 * @throws ConfigError where no client could send this token, or it is too short for where the API can be reached from.
 */
export function checkToken(token: string, isReachable: boolean): string {
  if (!TOKEN.test(token))
    throw new ConfigError(
      "STITCH_TOKEN: only letters, digits and ._~+/- (then =) can be sent as a bearer token; try: openssl rand -hex 32",
    );
  if (isReachable && token.length < MIN_LENGTH)
    throw new ConfigError(
      `STITCH_TOKEN: must have ${MIN_LENGTH} characters at least where the API can be reached from other machines, ` +
        "or it could be guessed; try: openssl rand -hex 32",
    );
  return token;
}
