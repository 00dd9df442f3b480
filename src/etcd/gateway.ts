import * as z from "zod";

/** gRPC's code for something that does not exist, which the gateway puts into its errors. */
const NOT_FOUND = 5;

/** Thrown if no member of the etcd answers as it should: nothing is known then about what was asked. */
export class EtcdUnavailable extends Error {
  override readonly name = "EtcdUnavailable";
}

export type EtcdGatewayOptions = {
  /** The members: `http://host:port`. */
  readonly members: readonly string[];
  /** How long one member has for an answer. */
  readonly answerMs: number;
};

const failure = z.object({ error: z.string(), code: z.int().optional() });

/**
 * The API of etcd, by its JSON gateway (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/). Asks the member that answered last,
 * then the others in turn. A request may be carried out although no answer came, and may be sent to several members.
 */
export class EtcdGateway {
  readonly #options: EtcdGatewayOptions;
  #first = 0;

  constructor(options: EtcdGatewayOptions) {
    this.#options = options;
  }

  /**
   * @param path such as `kv/range`. @param body as etcd documents it: bytes are base64, and int64 may be strings.
   * @returns null if etcd says that what is asked about does not exist. @throws EtcdUnavailable.
   */
  async call<T>(path: string, body: object, answer: z.ZodType<T>): Promise<T | null> {
    const { members } = this.#options;
    const reasons: string[] = [];
    for (let tried = 0; tried < members.length; tried++) {
      const index = (this.#first + tried) % members.length;
      const member = members[index] ?? "";
      try {
        const found = await this.#ask(member, path, body, answer);
        this.#first = index;
        return found;
      } catch (error) {
        reasons.push(`${member}: ${reasonOf(error)}`);
      }
    }
    throw new EtcdUnavailable(`STITCH_LEADER_LEASE: no member of the etcd answers (${reasons.join("; ")})`);
  }

  async #ask<T>(member: string, path: string, body: object, answer: z.ZodType<T>): Promise<T | null> {
    const response = await fetch(`${member}/v3/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(this.#options.answerMs),
    });
    // An answer that is a stream has one line for each message; only the first one is wanted.
    const [first = ""] = (await response.text()).split("\n");
    const found: unknown = JSON.parse(first);
    if (response.ok) return answer.parse(found);
    const { error, code } = failure.parse(found);
    if (code === NOT_FOUND) return null;
    throw new Error(error);
  }
}

/** Why a member does not answer. `fetch` itself says only that it has failed; its cause says why. */
function reasonOf(error: unknown): string {
  if (error instanceof z.ZodError || error instanceof SyntaxError) return "its answer is not that of an etcd";
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  const code: unknown = typeof cause === "object" && cause !== null ? Reflect.get(cause, "code") : undefined;
  if (typeof code === "string") return code;
  return cause instanceof Error ? cause.message : String(cause);
}
