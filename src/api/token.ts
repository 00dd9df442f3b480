import { ConfigError } from "../config.ts";

/** The characters that are allowed in `Authorization: Bearer …` (RFC 6750). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/** The length of `openssl rand -hex 16`: nobody can guess that over a network. */
const MIN_LENGTH = 32;

/**
 * @param isReachable can other machines reach the API? Nothing limits their guesses.
 * @throws ConfigError if no client could send this token, or if the API is reachable and the token is too short for that.
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
