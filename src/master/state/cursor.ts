import { RequestError } from "../../domain/errors.ts";

/** Where a page of a list ends, as an opaque text. */
export const encodeCursor = (cursor: unknown): string => btoa(JSON.stringify(cursor));

/** @throws RequestError `invalid_request` if the cursor is not one of ours. */
export function decodeCursor<T>(text: string, check: (value: unknown) => T | null): T {
  let value: unknown = null;
  try {
    value = JSON.parse(atob(text));
  } catch (error) {
    throw badCursor(error);
  }
  const cursor = check(value);
  if (cursor === null) throw badCursor();
  return cursor;
}

const badCursor = (cause?: unknown) =>
  new RequestError(
    "invalid_request",
    "The cursor is not one of this list's; leave it out to begin anew.",
    { errors: [{ path: "cursor", message: "must be a nextCursor of this list" }] },
    { cause },
  );
