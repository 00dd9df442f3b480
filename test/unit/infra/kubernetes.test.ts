import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { createProgram } from "../../../src/cli/program.ts";
import { ConfigError, loadConfig } from "../../../src/config.ts";
import { DOCKERFILE, readSettings } from "../../support/image-settings.ts";
import { checkedObject, type Pod, type PodContainer, readKubernetes } from "../../support/kubernetes-files.ts";

const root = join(import.meta.dirname, "../../..");
const files = readKubernetes();
const objects = files.flatMap(({ documents }) => documents.map(checkedObject));
const { env: imageEnv, user, health } = readSettings(DOCKERFILE);
const { STITCH_STATE_DIR = assert.fail(), STITCH_HEALTH_FILE = assert.fail() } = imageEnv;
const secret = objects.find((object) => object.kind === "Secret");
const workloads = objects.filter((object) => object.kind === "Deployment" || object.kind === "DaemonSet");
const pods = workloads.map(({ spec, metadata }) => ({ name: metadata.name, pod: spec.template.spec }));
const containers = pods.flatMap(({ pod }) => [...pod.initContainers, ...pod.containers]);

/** What the Secret has once it is filled in. */
const SECRETS: Readonly<Record<string, string>> = {
  REDIS_URL: "rediss://api:PASSWORD@redis.internal:6379",
  STITCH_TOKEN: "0123456789abcdef".repeat(4),
};
const MACHINE = "worker-1.eu.example.internal";

/** A quantity of Kubernetes as a container sees it: whole cores, rounded up, or bytes. */
function quantity(text: string): string {
  const [, number, unit = ""] = /^(\d+)(m|Mi|Gi)?$/.exec(text) ?? assert.fail(text);
  const factor = { "": 1, m: 0.001, Mi: 2 ** 20, Gi: 2 ** 30 }[unit];
  return String(Math.ceil(Number(number) * (factor ?? Number.NaN)));
}

/** The environment of a container: a variable sees those before it. */
function environmentOf({ env, resources }: PodContainer): Record<string, string> {
  const given: Record<string, string> = {};
  for (const { name, value, valueFrom } of env) {
    const { secretKeyRef, fieldRef, resourceFieldRef } = valueFrom ?? {};
    if (secretKeyRef !== undefined) {
      assert.equal(secretKeyRef.name, secret?.metadata.name);
      given[name] = SECRETS[secretKeyRef.key] ?? assert.fail(secretKeyRef.key);
    } else if (fieldRef !== undefined) {
      assert.equal(fieldRef.fieldPath, "spec.nodeName");
      given[name] = MACHINE;
    } else if (resourceFieldRef !== undefined) {
      const [, resource = ""] = resourceFieldRef.resource.split("requests.");
      given[name] = quantity(resources.requests[resource] ?? assert.fail(resource));
    } else
      given[name] = (value ?? assert.fail(name)).replace(/\$\((\w+)\)/g, (_, other) => given[other] ?? assert.fail());
  }
  return given;
}

const configOf = (pod: Pod) => {
  const given = environmentOf(pod.containers[0]);
  return { given, config: loadConfig({ ...imageEnv, ...given }) };
};
const podOf = (component: string): Pod =>
  pods.find(({ name }) => name === `crossstitch-${component}`)?.pod ?? assert.fail(component);

describe("infra/kubernetes", () => {
  it("is what Kubernetes takes", () => {
    const kinds = objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    assert.deepEqual(kinds, [
      "Deployment crossstitch-api",
      "Service crossstitch-api",
      "PodDisruptionBudget crossstitch-api",
      "Deployment crossstitch-master",
      "PodDisruptionBudget crossstitch-master",
      "DaemonSet crossstitch-node",
      "Secret crossstitch",
    ]);
    for (const { file, text } of files) assert.match(text, /^# [^]*?\napiVersion: /, `${file} begins with what it is`);
  });

  for (const [what, change] of [
    ["a wrong type", { replicas: "two" }],
    ["a part that is missing", { selector: undefined }],
    ["a misspelt key", { replica: 2 }],
  ] as const)
    it(`is refused with ${what}`, () => {
      const deployment = workloads.find(({ kind }) => kind === "Deployment");
      assert.doesNotThrow(() => checkedObject({ ...deployment }));
      assert.throws(() => checkedObject({ ...deployment, spec: { ...deployment?.spec, ...change } }));
    });

  it("gives each part a command and settings that it takes", () => {
    const commands = new Set(createProgram().commands.map((command) => command.name()));
    for (const { name, pod } of pods) {
      const [container] = pod.containers;
      assert.deepEqual(container.args, [name.replace("crossstitch-", "")]);
      assert.ok(commands.has(container.args[0] ?? ""));
      assert.equal(container.command, undefined, "the image's entry point stays");
      const { given, config } = configOf(pod);
      assert.equal(config.redisUrl?.reveal(), SECRETS["REDIS_URL"]);
      assert.equal(config.token?.reveal(), name === "crossstitch-api" ? SECRETS["STITCH_TOKEN"] : undefined);
      const text = JSON.stringify(container.env);
      for (const variable of Object.keys(given))
        assert.ok(
          /^(STITCH_|REDIS_URL$)/.test(variable) || text.includes(`$(${variable})`),
          `nobody reads ${variable}`,
        );
    }
  });

  it("starts no part with the Secret as it stands here", () => {
    const placeholders = secret?.stringData ?? {};
    assert.deepEqual(Object.keys(placeholders), Object.keys(SECRETS));
    for (const [name, value] of Object.entries(placeholders))
      assert.throws(() => loadConfig({ [name]: value }), ConfigError, name);
  });

  it("lets a node offer what its pod requests, and tells its machine, whose name no id could have", () => {
    const { config } = configOf(podOf("node"));
    assert.deepEqual([config.capacityCpu, config.capacityMemoryBytes], [1, 2 ** 30]);
    assert.deepEqual(config.labels, { machine: MACHINE });
    assert.deepEqual(config.roles, ["node"]);
    assert.equal(config.nodeIdIsSet, false);
    assert.throws(() => loadConfig({ STITCH_NODE_ID: MACHINE }), ConfigError);
  });

  it("sets nothing by the names of Services, of which each would be a setting that does not exist", () => {
    assert.throws(() => loadConfig({ STITCH_SERVICE_HOST: "10.0.0.1" }), ConfigError);
    for (const { name, pod } of pods) assert.equal(pod.enableServiceLinks, false, name);
  });

  it("selects the pods it means", () => {
    for (const { metadata, spec } of workloads) {
      const { labels } = spec.template.metadata;
      assert.deepEqual(spec.selector.matchLabels, labels);
      assert.equal(metadata.name, `crossstitch-${labels["app.kubernetes.io/component"]}`);
      for (const { labelSelector } of spec.template.spec.topologySpreadConstraints)
        assert.deepEqual(labelSelector.matchLabels, labels);
    }
    const labelsOf = (wanted: string) =>
      workloads.find(({ metadata }) => metadata.name === wanted)?.spec.template.metadata.labels;
    for (const object of objects) {
      if (object.kind === "Service") assert.deepEqual(object.spec.selector, labelsOf(object.metadata.name));
      if (object.kind === "PodDisruptionBudget")
        assert.deepEqual(object.spec.selector.matchLabels, labelsOf(object.metadata.name));
    }
  });

  it("keeps one of two APIs and masters through disruptions, and spreads them", () => {
    for (const workload of workloads)
      if (workload.kind === "Deployment") {
        assert.equal(workload.spec.replicas, 2);
        assert.equal(workload.spec.template.spec.topologySpreadConstraints.length, 1);
        const { name } = workload.metadata;
        const budget = objects.find(({ kind, metadata }) => kind === "PodDisruptionBudget" && metadata.name === name);
        assert.ok(budget?.kind === "PodDisruptionBudget" && budget.spec.minAvailable === 1, name);
      }
  });

  it("asks an API over HTTP, where it listens, and a master and a node by their health file", () => {
    const [api] = podOf("api").containers;
    const [port] = api.ports;
    assert.deepEqual(port, { name: "http", containerPort: loadConfig({}).port });
    assert.deepEqual(api.readinessProbe?.httpGet, { path: "/readyz", port: "http" });
    assert.deepEqual(api.livenessProbe?.httpGet, { path: "/livez", port: "http" });
    assert.deepEqual(api.lifecycle?.preStop.exec.command, ["sleep", "5"]);
    for (const object of objects)
      if (object.kind === "Service")
        assert.deepEqual(object.spec.ports, [{ name: "http", port: loadConfig({}).port, targetPort: "http" }]);
    for (const component of ["master", "node"]) {
      const [container] = podOf(component).containers;
      assert.deepEqual(container.readinessProbe?.exec?.command, health);
      assert.equal(container.livenessProbe, undefined);
    }
  });

  it("updates no node by itself, and lets one leave in good order", () => {
    const node = workloads.find(({ kind }) => kind === "DaemonSet");
    assert.ok(node?.kind === "DaemonSet");
    assert.equal(node.spec.updateStrategy.type, "OnDelete");
    assert.equal(podOf("node").terminationGracePeriodSeconds, 60);
  });

  it("confines every container", () => {
    for (const { name, pod } of pods) {
      assert.equal(pod.automountServiceAccountToken, false, name);
      const seccompProfile = { type: "RuntimeDefault" };
      assert.deepEqual(pod.securityContext, {
        runAsNonRoot: true,
        runAsUser: user.uid,
        runAsGroup: user.gid,
        seccompProfile,
      });
    }
    for (const { name, securityContext: context, resources } of containers) {
      assert.equal(context.readOnlyRootFilesystem, true, name);
      assert.equal(context.allowPrivilegeEscalation, false, name);
      assert.deepEqual(context.capabilities.drop, ["ALL"], name);
      assert.deepEqual(Object.keys(resources.requests), ["cpu", "memory"], name);
      if (name === "state-folder") assert.deepEqual(context.capabilities.add, ["CHOWN", "FOWNER"]);
      else
        for (const loosened of [context.capabilities.add, context.runAsUser, context.runAsNonRoot])
          assert.equal(loosened, undefined, name);
    }
  });

  it("mounts what a part writes to", () => {
    for (const { name, pod } of pods) {
      const sources = new Map(pod.volumes.map(({ name: volume, ...source }) => [volume, source]));
      const mounted = pod.containers[0].volumeMounts.map(
        (mount) => [mount.mountPath, sources.get(mount.name)] as const,
      );
      assert.equal(mounted.length, sources.size, name);
      const at = Object.fromEntries(mounted);
      assert.equal(at[dirname(STITCH_HEALTH_FILE)]?.emptyDir?.medium, "Memory", name);
      assert.equal(at["/tmp"]?.emptyDir?.medium, "Memory", name);
      const path = name === "crossstitch-node" ? STITCH_STATE_DIR : undefined;
      assert.equal(at[STITCH_STATE_DIR]?.hostPath?.path, path, name);
    }
  });

  it("runs the image of this version", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    for (const { name, image } of containers) assert.equal(image, `crossstitch:${version}`, name);
  });
});

const [stateFolder] = podOf("node").initContainers;
const asRootWith = (capabilities: readonly string[], ...command: string[]) => {
  const kept = capabilities.map((name) => `,+${name.toLowerCase()}`).join("");
  return spawnSync("setpriv", [`--bounding-set=-all${kept}`, "--inh-caps=-all", ...command], { encoding: "utf8" });
};
const tried = asRootWith(["CHOWN", "FOWNER"], "install", "--version");
const skip = (process.getuid?.() !== 0 || tried.status !== 0) && "needs root, setpriv and GNU's install";

it("a machine's state folder is given to the node's user, with the capabilities of the init container", {
  skip,
}, () => {
  const folder = mkdtempSync(join(tmpdir(), "cs-state-"));
  try {
    const add = stateFolder?.securityContext.capabilities.add ?? [];
    const command = stateFolder?.command?.map((word) => (word === STITCH_STATE_DIR ? folder : word)) ?? [];
    const ofFolder = () => [statSync(folder).uid, statSync(folder).gid, statSync(folder).mode & 0o7777];
    // As Kubernetes makes it; as it is from then on; as somebody may have left it.
    for (const mode of [0o755, 0o700, 0o777]) {
      chmodSync(folder, mode);
      assert.equal(asRootWith(add, ...command).stderr, "");
      assert.deepEqual(ofFolder(), [user.uid, user.gid, 0o700]);
    }
    chmodSync(folder, 0o755);
    assert.notEqual(asRootWith(["CHOWN"], ...command).status, 0, "both capabilities are needed");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
