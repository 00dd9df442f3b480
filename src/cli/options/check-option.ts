import { InvalidArgumentError } from "commander";

/** What a check looks at, as the spec says it. */
export type TypedCheck =
  | { readonly http: { readonly port: number; readonly path: string } }
  | { readonly tcp: { readonly port: number } }
  | { readonly exec: readonly string[] };

const FORMS = 'It is http:PORT/PATH, tcp:PORT or exec:"COMMAND ARG…", such as http:8080/health.';

/** Reads `--check`. A command is split at its spaces, and no quotes are understood: a spec file has room for those. */
export function parseCheck(text: string): TypedCheck {
  const [, kind, rest = ""] = /^(http|tcp|exec):(.*)$/s.exec(text) ?? [];
  switch (kind) {
    case "http": {
      const [, port = "", path = ""] = /^(\d+)(\/.*)?$/s.exec(rest) ?? [];
      return { http: { port: parsePort(port), path: path === "" ? "/" : path } };
    }
    case "tcp":
      return { tcp: { port: parsePort(rest) } };
    case "exec":
      return { exec: parseWords(rest) };
    default:
      throw new InvalidArgumentError(FORMS);
  }
}

function parsePort(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) < 1 || Number(text) > 65_535)
    throw new InvalidArgumentError(`${FORMS} The node looks at itself, 127.0.0.1; a port is 1 to 65535.`);
  return Number(text);
}

function parseWords(text: string): string[] {
  const found = text.split(" ").filter((word) => word !== "");
  if (found.length === 0) throw new InvalidArgumentError(FORMS);
  if (/["'\\]/.test(text))
    throw new InvalidArgumentError(
      'It is split at spaces, and no quotes are understood. Give such a command in a spec (--spec FILE): "check": {"exec": ["sh", "-c", "…"]}.',
    );
  return found;
}
