/** Thrown when what was typed cannot be carried out. Its message is for the person at the keyboard; exit code 1. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
