import { ConfigError } from "../config.ts";

/** The length of `openssl rand -hex 16`: nobody can guess that over a network. */
const MIN_LENGTH = 32;

/**
 * The token of an API that other machines can reach: nothing limits their guesses.
 * @throws ConfigError if it is too short for that.
 */
export function longEnough(token: string): string {
  if (token.length < MIN_LENGTH)
    throw new ConfigError(
      `STITCH_TOKEN: must have ${MIN_LENGTH} characters at least where the API can be reached from other machines, ` +
        "or it could be guessed; try: openssl rand -hex 32",
    );
  return token;
}
