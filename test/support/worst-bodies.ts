import * as z from "zod";
import { rollbackBody } from "../../src/api/jobs.ts";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import { sendRequest } from "../../src/domain/message.ts";

/** Every schema of a body, with the route that takes it. */
export const BODIES: readonly { readonly name: string; readonly path: string; readonly schema: z.ZodType }[] = [
  ...Object.entries(COMMANDS).map(([name, { schema }]) => ({ name, path: "/v1/commands", schema })),
  { name: "a message", path: "/v1/messages", schema: sendRequest },
  { name: "a rollback", path: "/v1/jobs/jhrot6cl5bs7w4lwe7tczd5dgnn/rollback", schema: rollbackBody },
];

/** Bodies that fit a schema up to a place, each with `bulk` in another place: in every field, element and unknown field. */
export function spoilt(schema: z.ZodType, bulk: unknown): unknown[] {
  return [...placed(z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }), bulk)];
}

function* placed(schema: z.core.JSONSchema._JSONSchema, bulk: unknown): Generator {
  yield bulk;
  if (typeof schema === "boolean") return;
  for (const one of [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])])
    yield* placed(one, bulk);
  if (schema.properties !== undefined) {
    // The fields that tell one alternative from another must be right, or nothing else is checked.
    const fixed: Record<string, unknown> = {};
    for (const [name, field] of Object.entries(schema.properties))
      if (typeof field === "object" && field.const !== undefined) fixed[name] = field.const;
    for (const [name, field] of Object.entries(schema.properties))
      for (const value of placed(field, bulk)) yield { ...fixed, [name]: value };
    yield { ...fixed, unknown: bulk };
  }
  for (const element of [schema.items, ...(schema.prefixItems ?? [])].flat())
    if (element !== undefined) for (const value of placed(element, bulk)) yield [value];
  if (typeof schema.additionalProperties === "object")
    for (const value of placed(schema.additionalProperties, bulk)) yield { a: value };
}
