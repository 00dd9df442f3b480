import type * as z from "zod";

/** A value that is read and never changed, at every level. */
type Immutable<Value> = unknown extends Value
  ? Value
  : Value extends object
    ? { readonly [Key in keyof Value]: Immutable<Value[Key]> }
    : Value;

/**
 * The type of a resource: what its schema describes. Nothing parses an answer while the API runs. The types and the OpenAPI
 * document (`infra/openapi.ts`) are made from the schemas, and the tests check every answer against them.
 */
export type Resource<Schema extends z.ZodType> = Immutable<z.output<Schema>>;
