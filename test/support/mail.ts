// Stitches that do with a message what its channel says.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestCluster } from "./cluster.ts";
import { dataDirOf, journalOf } from "./stitch-folder.ts";

const PROGRAM = join(import.meta.dirname, "stitches/mail.mjs");
/** Settings of a node that offers the module `mail`. */
export const MAIL_MODULE = { STITCH_MODULES: `mail=${join(import.meta.dirname, "modules/mail.mjs")}` };

type MailKind = "process" | "module" | "none";
const SPECS = {
  process: { adaptor: "process", protocol: "process-v1", command: [process.execPath, PROGRAM] },
  module: { adaptor: "module", module: "mail" },
  none: { adaptor: "process", protocol: "none", command: ["sleep", "600"] },
} as const;

/** Creates stitches by full id, such as `n1:a`, and kind. Resolves when they run. */
export async function createMail(
  cluster: TestCluster,
  group: string,
  stitches: Readonly<Record<string, MailKind>>,
  options: { readonly start?: boolean; readonly spec?: Record<string, unknown> } = {},
): Promise<void> {
  const { start = true, spec } = options;
  await Promise.all(
    Object.entries(stitches).map(async ([fullId, kind]) => {
      const [node, id] = fullId.split(":");
      const job = await cluster.run({
        command: "stitch.create",
        target: group,
        node,
        id,
        start,
        spec: { ...SPECS[kind], minHealthyMs: 0, ...spec },
      });
      assert.equal(job.status, "succeeded", JSON.stringify(job));
    }),
  );
}

export type Taken = {
  readonly from: string;
  readonly channel: string;
  readonly data: string;
  readonly replyTo?: number;
};

/** The messages that a stitch got, in order. A message that came twice is there twice. */
export function takenBy(cluster: TestCluster, fullId: string): Taken[] {
  const [node = "", id = ""] = fullId.split(":");
  return journalOf(cluster, node, id) as Taken[];
}

/** Makes a file in the folder of a stitch, because the stitch may look for it. */
export function tell(cluster: TestCluster, fullId: string, file = "go"): void {
  const [node = "", id = ""] = fullId.split(":");
  writeFileSync(join(dataDirOf(cluster, node, id), file), "");
}
