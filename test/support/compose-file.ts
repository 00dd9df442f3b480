// Reads infra/compose.yaml as Compose does: anchors and merge keys, then ${…} in every text.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import * as z from "zod";

export const COMPOSE_FILE = join(import.meta.dirname, "../../infra/compose.yaml");

const texts = z.array(z.string());
const service = z.strictObject({
  image: z.string(),
  build: z.strictObject({ context: z.string(), dockerfile: z.string() }).optional(),
  user: z.string().optional(),
  command: texts,
  environment: z.record(z.string(), z.string()),
  depends_on: z.record(z.string(), z.strictObject({ condition: z.literal("service_healthy") })).default({}),
  healthcheck: z.object({ test: z.tuple([z.literal("CMD")], z.string()) }).optional(),
  deploy: z.strictObject({ replicas: z.int() }).default({ replicas: 1 }),
  restart: z.literal("unless-stopped"),
  stop_grace_period: z.string().regex(/^\d+s$/),
  read_only: z.boolean(),
  cap_drop: texts,
  security_opt: texts,
  tmpfs: texts.default([]),
  volumes: texts.default([]),
  ports: texts.default([]),
  networks: texts,
});
const file = z.object({
  services: z.record(z.string(), service),
  volumes: z.record(z.string(), z.null()),
  networks: z.record(z.string(), z.object({ internal: z.boolean() }).nullable()),
});
export type Service = z.output<typeof service>;
export type ComposeFile = z.output<typeof file>;

/** The file as it is written, anchors and merge keys resolved. */
export const readComposeYaml = (): unknown => parse(readFileSync(COMPOSE_FILE, "utf8"), { merge: true });

/** @throws as Compose does if a variable that must be set is not, with the message that the file has for that. */
export const readCompose = (env: Readonly<Record<string, string>>): ComposeFile =>
  file.parse(interpolated(readComposeYaml(), env));

/** `$$`, `${NAME}` and `${NAME:?message}`: what the file uses. Another `$` is refused. */
function interpolated(value: unknown, env: Readonly<Record<string, string>>): unknown {
  if (typeof value === "string")
    return value.replaceAll(/\$(?:(\$)|\{([A-Z_]+)(?::\?([^}]*))?\}|)/g, (all, dollar, name, message) => {
      if (dollar !== undefined) return "$";
      if (name === undefined) throw new Error(`not understood: ${all} in ${value}`);
      const given = env[String(name)] ?? "";
      if (given === "" && message !== undefined) throw new Error(`required variable ${name} is missing: ${message}`);
      return given;
    });
  if (Array.isArray(value)) return value.map((item) => interpolated(item, env));
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, interpolated(item, env)]));
  return value;
}
