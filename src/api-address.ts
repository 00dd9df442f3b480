/** The characters that are allowed in `Authorization: Bearer …` (RFC 6750). */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;

/** What is wrong with this token of the API, and what to do; null if nothing. It does not repeat the token. */
export function wrongToken(token: string): string | null {
  if (TOKEN.test(token)) return null;
  const blank = /\s/.test(token)
    ? "it has a space or the end of a line in it, perhaps from the file it was read from: "
    : "";
  return `${blank}only letters, digits and ._~+/- (then =) can be sent as a bearer token; try: openssl rand -hex 32`;
}

/** What is wrong with this URL of the API, and what to do; null if nothing. It does not repeat the URL: it may hold a password. */
export function wrongUrl(url: string): string | null {
  // `new URL` passes over spaces and line ends, which are no part of an address.
  if (/^https?:\/\/[^\s?#]+$/i.test(url) && URL.canParse(url)) {
    const { username, password } = new URL(url);
    if (username === "" && password === "") return null;
  }
  return (
    "must be an http or https address and nothing else, such as http://127.0.0.1:8787: " +
    "no space, user, password, ? or # is read in it (the token is given on its own)"
  );
}
