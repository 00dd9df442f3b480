import { type Logger, pino } from "pino";
import type { Config } from "./config.ts";

/** JSON lines on stderr, so that stdout stays a command's answer. Authorization headers never get in. */
export function createLogger(config: Pick<Config, "logLevel">, name: string): Logger {
  return pino(
    { name, level: config.logLevel, redact: ["*.authorization", "headers.authorization", "req.headers.authorization"] },
    pino.destination({ dest: 2, sync: true }),
  );
}
