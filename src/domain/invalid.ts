import type * as z from "zod";

/** A field that is not as its schema wants it. `path` is empty where it is the whole. */
export type Invalid = { readonly path: string; readonly message: string };

/** Every wrong field with what it must be, in words for who sent it. */
export function invalidOf(error: z.ZodError): Invalid[] {
  return error.issues.flatMap(fieldsOf);
}

function fieldsOf(issue: z.core.$ZodIssue): Invalid[] {
  const at = (...more: string[]) => [...issue.path.map(String), ...more].join(".");
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({ path: at(key), message: "there is no such field or parameter here" }));
  // Why the name of a record's field is refused stands one level deeper.
  if (issue.code === "invalid_key") return issue.issues.map(({ message }) => ({ path: at(), message }));
  const missing = issue.code === "invalid_type" && issue.message.endsWith(", received undefined");
  return [{ path: at(), message: missing ? "is required" : issue.message }];
}
