/** The text of a thrown value: the message of an error, or the value itself as a string. */
export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The `code` that Node, a library or this project gave an error, such as `ENOENT`; null if it has none. */
export const errorCode = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : null);
