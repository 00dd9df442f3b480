/** Thrown when Ctrl-C ended a command. `hint` says what continues without the command. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly hint: string | null;
  constructor(hint: string | null = null) {
    super("interrupted");
    this.hint = hint;
  }
}
