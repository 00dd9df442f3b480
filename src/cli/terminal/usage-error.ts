/** Thrown when the typed command cannot be carried out. The message is for the user; exit code 1. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
