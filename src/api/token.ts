import { ConfigError } from "../config.ts";

/** What can stand in `Authorization: Bearer …` (RFC 6750). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/** @throws ConfigError where no client could send this token. */
export function checkToken(token: string): string {
  if (TOKEN.test(token)) return token;
  throw new ConfigError(
    "STITCH_TOKEN: only letters, digits and ._~+/- (then =) can be sent as a bearer token; try: openssl rand -hex 32",
  );
}
