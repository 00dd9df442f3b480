import { ApiError, ApiUnreachable, NotTheApi } from "../../client/client.ts";
import type { ClientContext } from "./client-action.ts";
import { isUndelivered } from "../terminal/exit-code.ts";
import { Interrupted } from "../terminal/interrupted.ts";
import { withRetries } from "../../client/retry.ts";

/**
 * Makes a call that changes something, and repeats it as `withRetries` does: the call's idempotency key makes that safe.
 * If no answer came, it prints how to find out without carrying the call out twice.
 * @param what a word for the thing that may have been accepted, such as "command".
 * @throws ApiError, ApiUnreachable, NotTheApi, Interrupted.
 */
export async function underKey<T>(
  { output, signal }: Pick<ClientContext, "output" | "signal">,
  key: string,
  what: string,
  call: () => Promise<T>,
): Promise<T> {
  return await withRetries(call, signal).catch((error: unknown) => {
    const hint = `The ${what} may have been accepted. The same again with --key ${key} is not carried out twice.`;
    if (error instanceof Interrupted) throw new Interrupted(hint);
    if (mayHaveBeenAccepted(error)) output.note(hint);
    throw error;
  });
}

function mayHaveBeenAccepted(error: unknown): boolean {
  if (error instanceof ApiUnreachable) return !error.refused;
  if (error instanceof NotTheApi) return error.status !== null && error.status >= 500;
  return error instanceof ApiError && error.status >= 500 && !isUndelivered(error.code);
}
