import { errorText } from "../../error-text.ts";
import type { TypedCheck } from "./check-option.ts";
import { type PlacementFlags, placementOf } from "./placement-flags.ts";
import { UsageError } from "../terminal/usage-error.ts";

/** The flags of `stitch run`, without those that every command has. */
export type RunFlags = PlacementFlags & {
  readonly count?: number;
  readonly node?: string;
  readonly id?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly restart?: string;
  readonly protocol?: string;
  readonly check?: TypedCheck;
};

type Fields = Readonly<Record<string, unknown>>;

/**
 * The options of `stitch.create`. Flags and the typed program override the fields of a spec file.
 * @param words the program and its arguments; empty if the spec file has them.
 * @param file the spec file's text; null without one.
 * @throws UsageError
 */
export function createOptions(flags: RunFlags, words: readonly string[], file: string | null): Fields {
  const spec = file === null ? { adaptor: "process" } : parseSpec(file);
  if (file === null && words.length === 0) {
    throw new UsageError("What should run? stitch run GROUP -- CMD ARG…, or --spec FILE");
  }
  const { count, node, id } = flags;
  return {
    spec: {
      ...spec,
      ...given({
        command: words.length === 0 ? undefined : words,
        env: flags.env === undefined ? undefined : { ...fieldsOf(spec, "env"), ...flags.env },
        // Default: a program typed at a prompt does not speak the stitch protocol.
        protocol: flags.protocol ?? (file === null ? "none" : undefined),
        check: flags.check === undefined ? undefined : { ...paceOf(spec), ...flags.check },
        restart: flags.restart === undefined ? undefined : { ...fieldsOf(spec, "restart"), policy: flags.restart },
      }),
    },
    ...given({ count, node, id }),
    ...placementOf(flags),
  };
}

function parseSpec(text: string): Fields {
  let spec: unknown;
  try {
    spec = JSON.parse(text);
  } catch (error) {
    throw new UsageError(`The spec is not JSON: ${errorText(error)}`);
  }
  if (!isFields(spec)) throw new UsageError('The spec is not a JSON object, such as {"adaptor": "process", …}');
  return spec;
}

const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
/** The fields of a part of the spec that a flag adds to. @throws UsageError if that part is no object. */
function fieldsOf(spec: Fields, name: string): Fields {
  const value = spec[name] ?? {};
  if (!isFields(value))
    throw new UsageError(`"${name}" of the spec is not a JSON object, so --${name} adds nothing to it`);
  return value;
}

/** What the spec's check says beside what it looks at. */
function paceOf(spec: Fields): Fields {
  const { http: _http, tcp: _tcp, exec: _exec, ...pace } = fieldsOf(spec, "check");
  return pace;
}

function given(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
