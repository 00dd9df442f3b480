import type * as z from "zod";

/** A field that does not match its schema. `path` is empty if the whole value is wrong. */
export type Invalid = { readonly path: string; readonly message: string };

/** Every wrong field with what it must be, in words for the sender; at most `most` of them. */
export function invalidOf(error: z.ZodError, most = Number.POSITIVE_INFINITY): Invalid[] {
  const found: Invalid[] = [];
  for (const issue of error.issues) {
    if (found.length >= most) break;
    found.push(...fieldsOf(issue, most - found.length));
  }
  return found;
}

function fieldsOf(issue: z.core.$ZodIssue, most: number): Invalid[] {
  const at = (...more: string[]) => [...issue.path.map(String), ...more].join(".");
  if (issue.code === "unrecognized_keys")
    return issue.keys
      .slice(0, most)
      .map((key) => ({ path: at(key), message: "there is no such field or parameter here" }));
  // The reason why a record refuses the name of a field is one level deeper.
  if (issue.code === "invalid_key") return issue.issues.map(({ message }) => ({ path: at(), message }));
  const missing = issue.code === "invalid_type" && issue.message.endsWith(", received undefined");
  return [{ path: at(), message: missing ? "is required" : issue.message }];
}
