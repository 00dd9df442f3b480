import { errorCode, errorText } from "../../../src/error-text.ts";

/** Where checks look: only at this machine. */
export const LOOPBACK = "127.0.0.1";

/** What one look at a program has shown. */
export type Finding =
  | { readonly kind: "well" }
  | { readonly kind: "failed"; readonly reason: string }
  /** The look was given up before its end. `said`: what had come until then, or empty. */
  | { readonly kind: "given up"; readonly said: string }
  /** The node could not look, for example because it can open no more files. That says nothing about the program. */
  | { readonly kind: "not made"; readonly reason: string };

/**
 * Looks once at a program. Never rejects. When the signal aborts, the look is given up: the promise then resolves as soon as
 * nothing of the look is left, or cannot be ended.
 */
export type Probe = (signal: AbortSignal) => Promise<Finding>;

export const failedLook = (reason: string): Finding => ({ kind: "failed", reason });

/** The machine has no file, connection, process, port or memory left for the look. */
const NODE_LACKS: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "ENOBUFS", "EADDRNOTAVAIL"]);

/** What an error of the system means for the look. @param address left out of the text: the name of the check has it. */
export function findingOf(error: unknown, address = ""): Finding {
  const text = errorText(error);
  const reason = address !== "" && text.endsWith(` ${address}`) ? text.slice(0, -address.length - 1) : text;
  return NODE_LACKS.has(errorCode(error)) ? { kind: "not made", reason } : failedLook(reason);
}
