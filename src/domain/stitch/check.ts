import * as z from "zod";
import { words } from "./words.ts";

const port = z.int().min(1).max(65_535);

const http = z.strictObject({
  port,
  path: z
    .string()
    .max(2048)
    .regex(/^\/[\x21-\x7e]*$/, 'must begin with "/", and hold only visible ASCII characters: write others as in %20'),
  /** Unset: 200 to 399. */
  expect: z.int().min(100).max(599).optional(),
});

/** How a node looks whether a program is well: the `check` of a spec. It has exactly one of `http`, `tcp` and `exec`. */
export const healthCheck = z
  .strictObject({
    http: http.optional(),
    tcp: z.strictObject({ port }).optional(),
    exec: words.optional(),
    intervalMs: z.int().min(100).max(3_600_000).default(10_000),
    timeoutMs: z.int().min(1).max(600_000).default(3000),
    greenAfter: z.int().min(1).max(100).default(1),
    redAfter: z.int().min(1).max(100).default(3),
    restartWhenRed: z.boolean().default(false),
  })
  .check(({ value: check, issues }) => {
    const { http: request, tcp, exec, timeoutMs, intervalMs } = check;
    if ([request, tcp, exec].filter((each) => each !== undefined).length !== 1)
      issues.push({ code: "custom", input: check, message: 'must have exactly one of "http", "tcp" and "exec"' });
    // A check never begins before the one before it has ended.
    if (timeoutMs > intervalMs)
      issues.push({
        code: "custom",
        input: timeoutMs,
        path: ["timeoutMs"],
        message: `must not be longer than intervalMs (${intervalMs}): it is ${timeoutMs}; give both`,
      });
  });
export type HealthCheck = z.output<typeof healthCheck>;

/** Characters of a command that its name in a message keeps. */
const COMMAND_CHARS = 100;

/** Names what a check looks at, for messages: `http 127.0.0.1:8080/health`. */
export function checkText({ http: request, tcp, exec = [""] }: HealthCheck): string {
  if (request !== undefined) return `http 127.0.0.1:${request.port}${request.path}`;
  if (tcp !== undefined) return `tcp 127.0.0.1:${tcp.port}`;
  const command = exec.join(" ");
  return `exec ${command.length > COMMAND_CHARS ? `${command.slice(0, COMMAND_CHARS)}…` : command}`;
}
