import type * as z from "zod";

/** A value that is looked at and never changed, all the way down. */
type Immutable<Value> = unknown extends Value
  ? Value
  : Value extends object
    ? { readonly [Key in keyof Value]: Immutable<Value[Key]> }
    : Value;

/**
 * The type of a resource: what its schema describes. Nothing parses an answer while the API runs; the schemas are the types,
 * the OpenAPI document (`infra/openapi.ts`), and what the tests hold every answer to.
 */
export type Resource<Schema extends z.ZodType> = Immutable<z.output<Schema>>;
