// Reads infra/kubernetes/*.yaml.
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { DaemonSet, Deployment } from "kubernetes-models/apps/v1";
import { PodDisruptionBudget } from "kubernetes-models/policy/v1";
import { Secret, Service } from "kubernetes-models/v1";
import { parseAllDocuments } from "yaml";
import * as z from "zod";

const FOLDER = join(import.meta.dirname, "../../infra/kubernetes");

const labels = z.record(z.string(), z.string());
const quantities = z.record(z.string(), z.string());
const probe = z.strictObject({
  exec: z.strictObject({ command: z.array(z.string()) }).optional(),
  httpGet: z.strictObject({ path: z.string(), port: z.string() }).optional(),
  periodSeconds: z.int(),
  timeoutSeconds: z.int(),
  failureThreshold: z.int().optional(),
});
const variable = z.strictObject({
  name: z.string(),
  value: z.string().optional(),
  valueFrom: z
    .strictObject({
      secretKeyRef: z.strictObject({ name: z.string(), key: z.string() }).optional(),
      fieldRef: z.strictObject({ fieldPath: z.string() }).optional(),
      resourceFieldRef: z.strictObject({ resource: z.string() }).optional(),
    })
    .optional(),
});
const container = z.strictObject({
  name: z.string(),
  image: z.string(),
  command: z.array(z.string()).optional(),
  args: z.array(z.string()).default([]),
  env: z.array(variable).default([]),
  ports: z.array(z.strictObject({ name: z.string(), containerPort: z.int() })).default([]),
  readinessProbe: probe.optional(),
  livenessProbe: probe.optional(),
  lifecycle: z
    .strictObject({ preStop: z.strictObject({ exec: z.strictObject({ command: z.array(z.string()) }) }) })
    .optional(),
  resources: z.strictObject({ requests: quantities }),
  securityContext: z.strictObject({
    runAsNonRoot: z.boolean().optional(),
    runAsUser: z.int().optional(),
    readOnlyRootFilesystem: z.boolean(),
    allowPrivilegeEscalation: z.boolean(),
    capabilities: z.strictObject({ drop: z.array(z.string()), add: z.array(z.string()).optional() }),
  }),
  volumeMounts: z.array(z.strictObject({ name: z.string(), mountPath: z.string() })),
});
const volume = z.strictObject({
  name: z.string(),
  emptyDir: z.strictObject({ medium: z.string(), sizeLimit: z.string() }).optional(),
  hostPath: z.strictObject({ path: z.string(), type: z.string() }).optional(),
});
const pod = z.strictObject({
  automountServiceAccountToken: z.boolean(),
  enableServiceLinks: z.boolean(),
  terminationGracePeriodSeconds: z.int().default(30),
  securityContext: z.strictObject({
    runAsNonRoot: z.boolean(),
    runAsUser: z.int(),
    runAsGroup: z.int(),
    seccompProfile: z.strictObject({ type: z.string() }),
  }),
  topologySpreadConstraints: z
    .array(
      z.strictObject({
        maxSkew: z.int(),
        topologyKey: z.string(),
        whenUnsatisfiable: z.string(),
        labelSelector: z.strictObject({ matchLabels: labels }),
      }),
    )
    .default([]),
  initContainers: z.array(container).default([]),
  containers: z.tuple([container]),
  volumes: z.array(volume),
});
const metadata = z.strictObject({ name: z.string() });
const selector = z.strictObject({ matchLabels: labels });
const template = z.strictObject({ metadata: z.strictObject({ labels }), spec: pod });

/**
 * What may be in the files. The classes of `kubernetes-models` check types and what must be there, but take keys that Kubernetes
 * does not know, such as a misspelt one; so these list each key that is used.
 */
const SHAPES = {
  Deployment: z.strictObject({
    apiVersion: z.literal("apps/v1"),
    kind: z.literal("Deployment"),
    metadata,
    spec: z.strictObject({ replicas: z.int(), selector, template }),
  }),
  DaemonSet: z.strictObject({
    apiVersion: z.literal("apps/v1"),
    kind: z.literal("DaemonSet"),
    metadata,
    spec: z.strictObject({ updateStrategy: z.strictObject({ type: z.string() }), selector, template }),
  }),
  Service: z.strictObject({
    apiVersion: z.literal("v1"),
    kind: z.literal("Service"),
    metadata,
    spec: z.strictObject({
      selector: labels,
      ports: z.array(z.strictObject({ name: z.string(), port: z.int(), targetPort: z.string() })),
    }),
  }),
  Secret: z.strictObject({
    apiVersion: z.literal("v1"),
    kind: z.literal("Secret"),
    metadata,
    type: z.string(),
    stringData: labels,
  }),
  PodDisruptionBudget: z.strictObject({
    apiVersion: z.literal("policy/v1"),
    kind: z.literal("PodDisruptionBudget"),
    metadata,
    spec: z.strictObject({ minAvailable: z.int(), selector }),
  }),
};
const anything = z.discriminatedUnion("kind", [
  SHAPES.Deployment,
  SHAPES.DaemonSet,
  SHAPES.Service,
  SHAPES.Secret,
  SHAPES.PodDisruptionBudget,
]);
export type KubernetesObject = z.output<typeof anything>;
export type Pod = z.output<typeof pod>;
export type PodContainer = z.output<typeof container>;

/** @throws what is wrong with it, by the schema of Kubernetes and by the shapes above. */
export function checkedObject(document: unknown): KubernetesObject {
  modelOf(document).validate();
  return anything.parse(document);
}

function modelOf(document: unknown): { validate: () => void } {
  if (Deployment.is(document)) return new Deployment(document);
  if (DaemonSet.is(document)) return new DaemonSet(document);
  if (Service.is(document)) return new Service(document);
  if (Secret.is(document)) return new Secret(document);
  if (PodDisruptionBudget.is(document)) return new PodDisruptionBudget(document);
  throw new Error("no kind of thing that is known here");
}

/** The documents of each file, as they are written. */
export const readKubernetes = (): { readonly file: string; readonly text: string; readonly documents: unknown[] }[] =>
  globSync("*.yaml", { cwd: FOLDER })
    .sort()
    .map((file) => {
      const text = readFileSync(join(FOLDER, file), "utf8");
      const documents = parseAllDocuments(text).map((document) => {
        if (document.errors.length > 0) throw new Error(`${file}: ${document.errors.join("; ")}`);
        const value: unknown = document.toJS();
        return value;
      });
      return { file: basename(file), text, documents };
    });
