import { randomUUID } from "node:crypto";
import {
  ApiError,
  type Client,
  type CommandAnswer,
  type CommandBody,
  type CommandOptions,
} from "../../src/client/client.ts";
import { until } from "./cluster.ts";

/** Sends a command. Sends it again under the same key while Redis is too slow. */
export function patientCommand(
  client: Client,
  body: CommandBody,
  { idempotencyKey = randomUUID(), ...options }: CommandOptions = {},
): Promise<CommandAnswer> {
  const send = async (): Promise<CommandAnswer | null> => {
    try {
      return await client.command(body, { idempotencyKey, ...options });
    } catch (error) {
      if (error instanceof ApiError && error.code === "redis_unavailable") return null;
      throw error;
    }
  };
  return until(`Redis is there for ${body.command}`, send, 60_000);
}
