/** What is said of whatever was thrown: an error's message, or the thing itself. */
export const errorText = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The `code` that Node, a library or this project gave an error, such as `ENOENT`; null where it has none. */
export const errorCode = (error: unknown): unknown => (error instanceof Error && "code" in error ? error.code : null);
