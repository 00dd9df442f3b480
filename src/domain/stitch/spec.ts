import * as z from "zod";
import { sizeFirst } from "../json/size-first.ts";
import { healthCheck } from "./check.ts";
import { argument, words } from "./words.ts";

/** Variables that can turn any started program into another one. A command from the network must not set them. */
const REFUSED_ENV =
  /^(NODE_OPTIONS|NODE_EXTRA_CA_CERTS|NODE_PATH|LD_.*|DYLD_.*|BASH_ENV|ENV|PYTHONSTARTUP|PYTHONPATH|PERL5OPT|PERL5LIB|RUBYOPT|RUBYLIB|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|GCONV_PATH|IFS|__proto__|OPENSSL_CONF|GLIBC_TUNABLES|PYTHONHOME|CLASSPATH|JDK_JAVA_OPTIONS|STITCH_.*)$/;

const env = sizeFirst(
  128,
  "variables",
  z.record(
    z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "must be a name of letters, digits and _")
      .refine(
        (name) => !REFUSED_ENV.test(name),
        "may not be set: it would change how the program is loaded, or is the node's own",
      ),
    argument,
  ),
);

/** What a stitch reserves on its node. Measured use is something else: it only breaks ties. */
export const resources = z.strictObject({
  cpu: z
    .number()
    .min(0)
    .max(4096)
    .refine((cores) => Math.abs(cores * 1000 - Math.round(cores * 1000)) < 1e-6, "at most three decimals")
    .default(0),
  memoryBytes: z.int().min(0).default(0),
});
export type Resources = z.output<typeof resources>;
export const NO_RESOURCES: Resources = { cpu: 0, memoryBytes: 0 };

export const restartPolicy = z.strictObject({
  policy: z.enum(["always", "on-failure", "never"]).default("always"),
  maxRestarts: z.int().min(0).max(10_000).default(5),
  windowMs: z.int().min(1000).max(86_400_000).default(60_000),
  backoffMs: z.int().min(10).max(3_600_000).default(500),
  maxBackoffMs: z.int().min(10).max(3_600_000).default(30_000),
});
export type RestartPolicy = z.output<typeof restartPolicy>;

/** How long a stitch must have been well before it counts. */
export const minHealthyMs = z.int().min(0).max(3_600_000).optional();

const shared = {
  minHealthyMs,
  heartbeatMs: z.int().min(100).max(3_600_000).default(10_000),
  onDisconnect: z.enum(["keep", "stop"]).default("keep"),
  restart: restartPolicy.prefault({}),
  stopGraceMs: z.int().min(0).max(600_000).default(5000),
  /** Unset: true unless the command named the node; the Master fills it in when it plans. */
  reschedule: z.boolean().optional(),
  resources: resources.prefault({}),
};

/** A program run as a child process of the node worker, without a shell. */
const processSpec = z
  .strictObject({
    adaptor: z.literal("process"),
    command: words,
    cwd: argument.refine((path) => path.startsWith("/"), "must be an absolute path").optional(),
    env: env.default({}),
    protocol: z.enum(["process-v1", "none"]).default("process-v1"),
    /** Without a default: the text of a spec that has none, and its hash, must stay what they are. */
    check: healthCheck.optional(),
    ...shared,
  })
  .refine(({ check, restart }) => check?.restartWhenRed !== true || restart.policy !== "never", {
    path: ["check", "restartWhenRed"],
    error: 'needs a restart policy that restarts: "always" or "on-failure"',
  });

/** A module that the node offers under this name (`STITCH_MODULES`); never a path from the network. */
const moduleSpec = z.strictObject({
  adaptor: z.literal("module"),
  module: z.string().regex(/^[A-Za-z0-9_-]{1,63}$/, "must be a module's name: letters, digits, _ and -"),
  ...shared,
});

/** What to run as a stitch: with every default filled in after parsing. */
export const stitchSpec = z.discriminatedUnion("adaptor", [processSpec, moduleSpec]);
export type StitchSpec = z.output<typeof stitchSpec>;
export type ProcessSpec = z.output<typeof processSpec>;

/** Does a stitch with this spec take messages? A plain program has no protocol for them. */
export const isAddressable = (spec: StitchSpec): boolean => spec.adaptor === "module" || spec.protocol === "process-v1";

/** Does its node look whether it is well? */
export const hasCheck = (spec: StitchSpec): boolean => spec.adaptor === "process" && spec.check !== undefined;

/** Names a spec: the SHA-256, in hexadecimal, of the text that Masters store. */
export const specHash = z.string().regex(/^[0-9a-f]{64}$/, "must be a SHA-256 in hexadecimal");

/** A spec that a Master has accepted. */
export type KnownSpec = { readonly specHash: string; readonly spec: StitchSpec };

/** A known spec with its stored text. The text is never made again: a later version may write the same spec differently. */
export type StoredSpec = KnownSpec & { readonly text: string };
