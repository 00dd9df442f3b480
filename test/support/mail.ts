// Stitches that do with a message what its channel says, and the client through which tests tell them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ProblemResource } from "../../src/contract/problem.ts";
import type { DeadLetterResource, DeliveryResource, SentResource } from "../../src/contract/message.ts";
import { checkedFetch } from "./checked-fetch.ts";
import { type TestCluster, until } from "./cluster.ts";
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

export type Answered = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: SentResource & ProblemResource;
};

/** Sends messages through an API, and reads its dead letters. */
export class MailClient {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  /** Sends a message. Sends it again under the same key while Redis is too slow. */
  send(to: object, more: Record<string, unknown> = {}, key: string = randomUUID()): Promise<Answered> {
    const post = async (): Promise<Answered | null> => {
      const response = await checkedFetch(`${this.#url}/v1/messages`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify({ to, data: "hello", ...more }),
      });
      const body = (await response.json()) as Answered["body"];
      return body.code === "redis_unavailable" ? null : { status: response.status, headers: response.headers, body };
    };
    return until("Redis is there for a message", post, 60_000);
  }

  /** Sends to one stitch, and resolves with its reply. */
  async ask(stitch: string, channel: string, data: unknown, timeoutMs = 20_000): Promise<string> {
    const { status, body } = await this.send({ stitch }, { channel, data, expect: "reply", timeoutMs });
    assert.equal(status, 200, JSON.stringify(body));
    return body.deliveries[0]?.data ?? assert.fail(JSON.stringify(body));
  }

  /** Tells a stitch to do something, and resolves when it has. */
  async tell(stitch: string, channel: string, data: unknown = ""): Promise<void> {
    const { status, body } = await this.send({ stitch }, { channel, data, expect: "ack", timeoutMs: 30_000 });
    assert.deepEqual([status, body.deliveries?.[0]?.status], [200, "acked"], JSON.stringify(body));
  }

  async deadLetters(query = ""): Promise<{ items: DeadLetterResource[]; nextCursor: string | null }> {
    const response = await checkedFetch(`${this.#url}/v1/dead-letters${query}`);
    assert.equal(response.status, 200, await (response.ok ? "" : response.text()));
    return (await response.json()) as { items: DeadLetterResource[]; nextCursor: string | null };
  }

  async on(method: "POST" | "DELETE", path: string): Promise<{ status: number; body: Partial<Answered["body"]> }> {
    const response = await checkedFetch(`${this.#url}${path}`, { method });
    const text = await response.text();
    return { status: response.status, body: text === "" ? {} : (JSON.parse(text) as Answered["body"]) };
  }
}

/** Rows such as `n1:a acked`, with their code if there is one. */
export const rowsOf = (deliveries: readonly DeliveryResource[]): string[] =>
  deliveries.map(({ stitch, status, code }) => `${stitch} ${status}${code === undefined ? "" : ` ${code}`}`);
