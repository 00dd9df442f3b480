import { type Logger, pino } from "pino";
import type { Config } from "./config.ts";
import { loggable } from "./error-log.ts";

/** JSON lines on stderr, so that stdout stays a command's answer. No authorization header gets in, and no command of Redis. */
export function createLogger(config: Pick<Config, "logLevel">, name: string): Logger {
  const stderr = pino.destination({ dest: 2, sync: true });
  // A terminal that was closed (EIO), a disk that is full: what is logged is lost, and the work goes on.
  stderr.on("error", () => {
    stderr.write = () => true;
  });
  return pino(
    {
      name,
      level: config.logLevel,
      serializers: { err: loggable },
      redact: ["*.authorization", "headers.authorization", "req.headers.authorization"],
    },
    stderr,
  );
}
