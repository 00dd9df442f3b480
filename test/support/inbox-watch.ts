import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { readMessage, type Message } from "../../src/domain/message.ts";
import type { Keys } from "../../src/redis/keys.ts";

/** An entry of a node's inbox. `share`: the stitch in whose share it counts, or "*" for several. Times by Redis's clock. */
export type Entry = {
  readonly node: string;
  /** null: a question. */
  readonly message: Message | null;
  readonly share: string;
  readonly bytes: number;
  readonly storedAtMs: number;
  readonly doneAtMs: number;
};

type Added = Omit<Entry, "doneAtMs">;

/**
 * Sees every entry that is put into the inboxes of a single Redis, and when it leaves them, with Redis's own MONITOR. So it
 * sees all that was accepted, no matter who sent it and what became of the sender.
 */
export class InboxWatch {
  readonly #socket: Socket;
  readonly #nodeOf: ReadonlyMap<string, string>;
  readonly #added = new Map<string, Added[]>();
  /** For each node, the ids of the entries that left its inbox, and when. */
  readonly #gone = new Map<string, Map<string, number>>();
  #rest = "";
  readonly #echoes = new Set<string>();
  #broken: Error | null = null;

  private constructor(socket: Socket, keys: Keys, nodes: readonly string[]) {
    this.#socket = socket;
    this.#nodeOf = new Map(nodes.map((node) => [keys.nodeInbox(node), node]));
    for (const node of nodes) {
      this.#added.set(node, []);
      this.#gone.set(node, new Map());
    }
    socket.setEncoding("utf8").on("data", (text: string) => this.#read(text));
    socket.on("error", (error) => (this.#broken = error));
  }

  /** @param port of a Redis on the loopback address, without a password. */
  static async start(port: number, keys: Keys, nodes: readonly string[]): Promise<InboxWatch> {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    const watch = new InboxWatch(socket, keys, nodes);
    socket.write("MONITOR\r\n");
    await once(socket, "data");
    return watch;
  }

  stop(): void {
    this.#socket.destroy();
  }

  /** Has it seen `ECHO <word>`? Everything before that it has seen too. */
  hasSeen(word: string): boolean {
    if (this.#broken !== null) throw this.#broken;
    return this.#echoes.has(word);
  }

  /** All entries. @throws if one has not left its inbox. */
  entries(): Entry[] {
    return [...this.#added].flatMap(([node, added]) => {
      // MONITOR does not show which id an entry got, but ids are given in order.
      const gone = [...(this.#gone.get(node) ?? [])].sort(([a], [b]) => compareIds(a, b));
      if (gone.length !== added.length)
        throw new Error(`${added.length} entries were put into the inbox of ${node}, and ${gone.length} taken out`);
      return added.map((entry, index) => ({ ...entry, doneAtMs: gone[index]?.[1] ?? 0 }));
    });
  }

  #read(text: string): void {
    const lines = (this.#rest + text).split("\r\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#take(line);
  }

  #take(line: string): void {
    const [, seconds = "", command = "", key = "", rest = ""] =
      /^\+(\d+\.\d+) \[\d+ [^\]]*\] "(XADD|XDEL|echo)" "([^"]+)"(.*)$/.exec(line) ?? [];
    if (command === "echo") this.#echoes.add(key);
    const node = this.#nodeOf.get(key);
    if (node === undefined) return;
    const atMs = Number(seconds) * 1000;
    const words = wordsOf(rest);
    const gone = this.#gone.get(node);
    if (command === "XDEL") for (const id of words) gone?.set(id, gone.get(id) ?? atMs);
    else this.#added.get(node)?.push(addedOf(node, words, atMs));
  }
}

/** Reads `*`, the kind (`question`, or `message:` and the stitch in whose share it counts), and the body. */
function addedOf(node: string, [, what = "", body = ""]: readonly string[], storedAtMs: number): Added {
  const [kind, share = ""] = what.split(":");
  const read = kind === "message" ? readMessage(body) : { message: null };
  if ("wrong" in read) throw new Error(`not a message (${read.wrong}): ${body.slice(0, 200)}`);
  const { message } = read;
  return { node, message, share, bytes: Buffer.byteLength(body), storedAtMs };
}

/** The words, which MONITOR quotes like JSON for all that the tests send. */
const wordsOf = (text: string): string[] =>
  [...text.matchAll(/"(?:[^"\\]|\\.)*"/g)].map(([word]) => String(JSON.parse(word.replaceAll("\\x", "\\u00"))));

function compareIds(a: string, b: string): number {
  const [aMs = 0, aNumber = 0] = a.split("-").map(Number);
  const [bMs = 0, bNumber = 0] = b.split("-").map(Number);
  return aMs - bMs || aNumber - bNumber;
}
