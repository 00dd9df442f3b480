// The client through which tests tell stitches that take mail (see mail.ts) what to do.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { ProblemResource } from "../../src/contract/problem.ts";
import type { DeadLetterResource, DeliveryResource, SentResource } from "../../src/contract/message.ts";
import { checkedFetch } from "./checked-fetch.ts";
import { until } from "./cluster.ts";

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
