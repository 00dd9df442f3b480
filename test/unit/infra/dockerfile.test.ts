// infra/Dockerfile against the files that run its image: what they say about the inside of the image is so. What else they say
// of its user, its settings and its health check, their own tests compare with infra/Dockerfile.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { loadConfig } from "../../../src/config.ts";
import { readCompose } from "../../support/compose-file.ts";
import { readDockerfile } from "../../support/dockerfile.ts";
import { DOCKERFILE, readSettings } from "../../support/image-settings.ts";
import { checkedObject, readKubernetes } from "../../support/kubernetes-files.ts";

const image = readSettings(DOCKERFILE);
const { uid, gid } = image.user;
const { STITCH_STATE_DIR = assert.fail(), STITCH_HEALTH_FILE = assert.fail() } = image.env;
const ran = (readDockerfile(DOCKERFILE).at(-1)?.instructions ?? []).filter(({ keyword }) => keyword === "RUN");
const steps = ran.flatMap(({ text }) => text.split("&&").map((step) => step.trim().replace(/\s+/g, " ")));

const { services } = readCompose({ REDIS_PASSWORD: "a", STITCH_TOKEN: "b" });
const ofCompose = Object.values(services).filter(({ build }) => build !== undefined);
const pods = readKubernetes()
  .flatMap(({ documents }) => documents.map(checkedObject))
  .filter((object) => object.kind === "Deployment" || object.kind === "DaemonSet")
  .map(({ spec }) => spec.template.spec);

describe("infra/Dockerfile", () => {
  it("makes the user that is named by number, and gives it the two folders that others mount", () => {
    assert.deepEqual(image.user, { uid: 10_001, gid: 10_001 });
    assert.deepEqual([dirname(STITCH_HEALTH_FILE), STITCH_STATE_DIR], ["/run/crossstitch", "/var/lib/crossstitch"]);
    assert.ok(steps.includes(`groupadd --gid ${gid} crossstitch`));
    assert.ok(steps.some((step) => step.startsWith(`useradd --uid ${uid} --gid ${gid} `)));
    assert.ok(steps.includes(`install -d -m 0700 -o ${uid} -g ${gid} /run/crossstitch /var/lib/crossstitch`));
  });

  it("starts `stitch` under tini, whose options end before it, and is checked by `healthy`", () => {
    assert.deepEqual(image.entrypoint, ["tini", "--", "stitch"]);
    assert.deepEqual(image.health, ["healthy"]);
    assert.match(steps.join("\n"), /^apt-get install .* tini$/m);
    assert.match(image.env["PATH"] ?? "", /^\/opt\/crossstitch\/bin:/);
    for (const program of ["stitch", "healthy"])
      assert.ok(existsSync(join(dirname(DOCKERFILE), "bin", program)), program);
  });

  it("is what infra/compose.yaml takes it for", () => {
    assert.ok(ofCompose.length > 3);
    const healthFolder = `/run/crossstitch:uid=${uid},gid=${gid},mode=0700,`;
    for (const { user, tmpfs, volumes, ports, healthcheck } of ofCompose) {
      assert.deepEqual([user, healthcheck], [undefined, undefined], "those of the image");
      assert.ok(tmpfs.some((entry) => entry.startsWith(healthFolder)));
      for (const volume of volumes) assert.equal(volume.split(":")[1], STITCH_STATE_DIR);
      for (const port of ports) assert.deepEqual([Number(port.split(":").at(-1))], image.ports);
    }
    assert.equal(ofCompose.flatMap(({ ports }) => ports).length, 1);
    assert.deepEqual(image.ports, [loadConfig({}).port]);
    assert.deepEqual(image.ports, [8787]);
  });

  it("is what infra/kubernetes takes it for", () => {
    assert.equal(pods.length, 3);
    for (const { initContainers, containers } of pods) {
      const [{ ports, volumeMounts }] = containers;
      for (const { containerPort } of ports) assert.deepEqual([containerPort], image.ports);
      const paths = volumeMounts.map(({ mountPath }) => mountPath).filter((path) => path !== "/tmp");
      const ofNode = initContainers.length > 0 ? [STITCH_STATE_DIR] : [];
      assert.deepEqual(paths.sort(), [dirname(STITCH_HEALTH_FILE), ...ofNode]);
      for (const { command } of initContainers) {
        const owned = ["-o", String(uid), "-g", String(gid), "-m", "0700", STITCH_STATE_DIR];
        assert.deepEqual(command, ["install", "-d", ...owned]);
      }
    }
    assert.ok(pods.some(({ initContainers }) => initContainers.length > 0));
    assert.ok(pods.some(({ containers }) => containers[0].ports.length > 0));
  });
});
