import { Agent, request } from "node:http";

/** The cheapest client that Node has, because its cost is not what is measured. It keeps connections open. */
export class HttpClient {
  readonly #agent: Agent;
  readonly #url: string;

  constructor(url: string, connections: number) {
    this.#url = url;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** Resolves with the body of the answer. Rejects if the status is not 200. */
  ask(method: "GET" | "POST", path: string, body?: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const headers =
        body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const asked = request(this.#url + path, { method, agent: this.#agent, headers, timeout: 30_000 }, (answer) => {
        let text = "";
        answer.setEncoding("utf8");
        answer.on("data", (part: string) => (text += part));
        answer.on("error", reject);
        answer.on("end", () => {
          if (answer.statusCode === 200) resolve(text);
          else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
        });
      });
      asked.on("error", reject);
      asked.on("timeout", () => asked.destroy(new Error(`${method} ${path}: no answer within 30 s`)));
      asked.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
