import { writeSync } from "node:fs";
import { hostname } from "node:os";
import { type Logger, pino } from "pino";
import type { Config } from "./config.ts";
import { loggable } from "./error-log.ts";
import { LogOutput } from "./log-output.ts";

const STDERR = 2;
/** pino's number for "warn". */
const WARN = 40;

/** One per process: a node worker and the master worker beside it share stderr, and must not write into each other's lines. */
const stderr = new LogOutput({
  write: (bytes) => writeSync(STDERR, bytes),
  lossLine: (lost, code) =>
    `${JSON.stringify({
      level: WARN,
      time: Date.now(),
      pid: process.pid,
      hostname: hostname(),
      lost,
      code,
      msg: "so many lines of this log were lost here: they could not be written; see to the disk or the reader of stderr",
    })}\n`,
});

/** How many lines this process could not write to its log. */
export const lostLogLines = (): number => stderr.lostEver;

/**
 * Logs JSON lines on stderr, so that stdout has only a command's answer. Never logs an authorization header or a Redis command.
 * Logging never fails: see `LogOutput`.
 */
export function createLogger(config: Pick<Config, "logLevel">, name: string): Logger {
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
