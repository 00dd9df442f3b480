// The stitch SDK for JavaScript: one file without dependencies, for Node 18 or newer. It makes a program a stitch: it answers
// heartbeats, hands over messages and ends when the node asks it to. The types are in stitch.d.mts; docs/first-stitch.md
// is the introduction.
import { inspect } from "node:util";

/** The node's default `stopGraceMs`. */
const EXIT_LIMIT_MS = 5000;
/** More unanswered messages than this would only fill the memory; the sender of a refused message is told at once. */
const MAX_WAITING = 1000;
/** More unanswered questions than this would only fill the memory. */
const MAX_ASKED = 1000;
const ASK_LIMIT_MS = 5000;
/**
 * Ids of questions begin here: a reply has the Id of the message that it answers, and a node's own Ids never get this high.
 * The first Id above it is random, so that an answer to an earlier run of this stitch is not taken for one to this run.
 */
const FIRST_QUESTION = 2 ** 52;
/** The node refuses a larger message. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** The node cuts a longer line. Escaped as JSON, a line grows at most sixfold, so that one line always fits into a batch. */
const MAX_LINE_LENGTH = 64 * 1024;
const MAX_BATCH_BYTES = MAX_MESSAGE_BYTES / 2;

let connected = false;

/** Makes this process a stitch. Call it once per process. */
export function connect(options = {}) {
  if (connected) throw new Error("connect() has been called before: a process is one stitch");
  connected = true;
  return new Stitch(options);
}

class Stitch {
  #concurrency;
  #exitLimitMs;
  #onMessage = null;
  #onHeartbeat = null;
  #exitHooks = [];
  #waiting = [];
  #running = new Set();
  /** The function that takes the answer, by the question's id. */
  #asked = new Map();
  #lastQuestion = FIRST_QUESTION + Math.floor(Math.random() * 2 ** 51);
  #ending = false;

  constructor({ concurrency = 1, exitLimitMs = EXIT_LIMIT_MS }) {
    Object.assign(this, readFacts(process.argv.slice(2), process.env));
    this.#concurrency = concurrency;
    this.#exitLimitMs = exitLimitMs;
    const read = messageReader((text) => this.#take(text));
    process.stdin.setEncoding("utf8").on("data", read);
    // If either pipe is gone, the node is gone. Earlier messages are still handled if somebody may read the answers.
    for (const event of ["end", "close", "error"]) process.stdin.on(event, () => void this.#end());
    process.stdout.on("error", () => this.#endSoon());
    process.on("SIGTERM", () => this.#endSoon());
  }

  onMessage(handler) {
    this.#onMessage = handler;
  }

  onHeartbeat(hook) {
    this.#onHeartbeat = hook;
  }

  onExit(hook) {
    this.#exitHooks.push(hook);
  }

  log(...lines) {
    const texts = lines.flatMap((line) => (typeof line === "string" ? line : inspect(line)).split(/\r?\n/));
    for (const batch of batches(texts)) void write(framed({ Command: "logs", Logs: batch }));
  }

  send(message) {
    try {
      return write(framed(toSend(message)));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  ask(to, data, { channel, timeoutMs = ASK_LIMIT_MS } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#asked.size >= MAX_ASKED) throw new RangeError(`${MAX_ASKED} questions are without an answer already`);
      this.#lastQuestion += 1;
      const id = this.#lastQuestion;
      const question = framed({ ...toSend({ to, channel, data }), Id: id });
      const late = setTimeout(() => {
        this.#asked.delete(id);
        reject(new Error(`${to} has not answered within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#asked.set(id, (answer) => {
        this.#asked.delete(id);
        clearTimeout(late);
        resolve(answer);
      });
      void write(question);
    });
  }

  #take(text) {
    let message;
    let replyTo;
    try {
      ({ message, replyTo } = parseMessage(text));
    } catch (error) {
      complain(`what the node wrote could not be read: ${error.message}`);
      return;
    }
    if (message.channel === "_heartbeat") void this.#beat(message.id);
    else if (message.channel === "_exit") this.#endSoon();
    else if (message.channel === "_error") complain(`the node reports an error: ${message.data}`);
    else if (replyTo >= FIRST_QUESTION) this.#answered(message, replyTo);
    // Other system channels come from a newer node.
    else if (!message.channel.startsWith("_")) this.#receive(message);
  }

  /** At once, before waiting messages: they may wait for the handler that asked. An answer that comes too late is dropped. */
  #answered(message, question) {
    void write(framed({ Command: "ack", Id: message.id }));
    this.#asked.get(question)?.(message);
  }

  async #beat(id) {
    try {
      await this.#onHeartbeat?.();
      void write(framed({ Command: "sync", Id: id }));
    } catch (error) {
      complain(`a heartbeat is not answered, because onHeartbeat failed: ${inspect(error)}`);
    }
  }

  #receive(message) {
    if (this.#ending) return;
    if (this.#onMessage === null) this.#refuse(message, "onMessage has not been called; call it right after connect()");
    else if (this.#waiting.length >= MAX_WAITING) this.#refuse(message, `${MAX_WAITING} others are waiting already`);
    else {
      this.#waiting.push(message);
      this.#next();
    }
  }

  #refuse({ id }, reason) {
    complain(`message ${id} failed: ${reason}`);
    void write(framed({ Command: "fail", Id: id }));
  }

  #next() {
    while (this.#running.size < this.#concurrency && this.#waiting.length > 0) {
      const handling = this.#handle(this.#waiting.shift()).then(() => {
        this.#running.delete(handling);
        this.#next();
      });
      this.#running.add(handling);
    }
  }

  async #handle(message) {
    try {
      const reply = await this.#onMessage(message);
      void write(framed(toAnswer(message, reply)));
    } catch (error) {
      this.#refuse(message, inspect(error));
    }
  }

  /** Messages that were not begun stay unanswered: so the node knows that nobody has handled them. */
  #endSoon() {
    this.#waiting = [];
    void this.#end();
  }

  async #end() {
    if (this.#ending) return;
    this.#ending = true;
    setTimeout(() => {
      complain(`ended after ${this.#exitLimitMs} ms, although it had not finished`);
      process.exit(0);
    }, this.#exitLimitMs);
    while (this.#running.size > 0) await Promise.all(this.#running);
    for (const hook of this.#exitHooks) {
      try {
        await hook();
      } catch (error) {
        complain(`an onExit hook failed: ${inspect(error)}`);
      }
    }
    // The callback runs when all earlier output has left the process, or can no longer leave it.
    process.stdout.write("", () => process.exit(0));
  }
}

/**
 * The node starts `<command…> key=value … -- <own arguments>`. Words before the first key are the command's own arguments,
 * too. Without the keys, the facts come from the environment.
 */
function readFacts(words, env) {
  const isFact = (word) =>
    /^(coreid|corepid|instanceid|application|component|version|groupname|datadir|channel|serializer)=/.test(word);
  const separator = words.indexOf("--");
  const before = separator === -1 ? words : words.slice(0, separator);
  const after = separator === -1 ? [] : words.slice(separator + 1);
  const first = before.findIndex(isFact);
  const own = first === -1 ? before : before.slice(0, first);
  const facts = Object.fromEntries(
    before.slice(own.length).map((word) => [word.split("=", 1)[0], word.slice(word.indexOf("=") + 1)]),
  );
  const group = facts.groupname ?? env.STITCH_GROUP ?? "";
  const [application = "", component = "", version = ""] = group.split(".");
  return {
    id: facts.instanceid ?? env.STITCH_ID ?? "",
    node: facts.coreid ?? env.STITCH_NODE_ID ?? "",
    group,
    application: facts.application ?? application,
    component: facts.component ?? component,
    version: facts.version ?? version,
    dataDir: facts.datadir ?? env.STITCH_DATA_DIR ?? process.cwd(),
    args: [...own, ...after],
  };
}

/**
 * A message is a JSON object and a line `end`. Not with node:readline: it also ends a line at U+2028, which JSON may contain.
 * @returns a function that takes the next piece of text and calls `take` with the text of each message in it.
 */
function messageReader(take) {
  let rest = "";
  let gathered = [];
  return (chunk) => {
    const lines = chunk.split("\n");
    lines[0] = rest + lines[0];
    rest = lines.pop();
    for (const line of lines) {
      if (line.trim() === "end") {
        const text = gathered.join("\n");
        gathered = [];
        take(text);
      } else if (gathered.length > 0 || line.trim() !== "") gathered.push(line);
    }
  };
}

function parseMessage(text) {
  const { Id, FromStitchInstanceId, ChannelName, Data, ReplyToId } = Object(JSON.parse(text));
  if (!Number.isSafeInteger(Id)) throw new Error(`Id is no whole number: ${text.slice(0, 200)}`);
  const [from, channel, data] = [FromStitchInstanceId, ChannelName, Data].map((field) => String(field ?? ""));
  const message = Object.freeze({ id: Id, from, channel, data, json: () => JSON.parse(data) });
  return { message, replyTo: Number.isSafeInteger(ReplyToId) ? ReplyToId : null };
}

function toSend({ to, group, channel, data }) {
  if ((to == null) === (group == null))
    throw new TypeError("a message goes either to a stitch (to) or to a group (group)");
  return {
    Command: "data",
    ...(to == null ? { ToGroupName: group } : { ToStitchInstanceId: to }),
    ...(channel === undefined ? {} : { DataChannel: channel }),
    Data: dataText(data),
  };
}

/** A reply acknowledges, too. The system sends without an address, so its messages can only be acknowledged. */
function toAnswer({ id, from }, reply) {
  if (reply === undefined || from === "") return { Command: "ack", Id: id };
  return { Command: "data", Id: id, ToStitchInstanceId: from, Data: dataText(reply) };
}

function dataText(data) {
  const text = typeof data === "string" ? data : JSON.stringify(data);
  if (text === undefined) throw new TypeError(`not a string, nor JSON: ${inspect(data)}`);
  return text;
}

/** @throws RangeError if the node would refuse the message. */
function framed(message) {
  // The first line break ends a line that the program may have left open.
  const text = `\n${JSON.stringify(message)}\nend\n`;
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_MESSAGE_BYTES) throw new RangeError(`${bytes} bytes are more than a message may have (1 MiB)`);
  return text;
}

/** One write, so that nothing gets between the lines of a message. Resolves when stdout has taken the text. */
function write(text) {
  const taken = new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
  // The stitch ends when stdout breaks. If a caller does not await the promise, that must not become a crash.
  taken.catch(() => undefined);
  return taken;
}

function* batches(lines) {
  let batch = [];
  let bytes = 0;
  for (const line of lines) {
    const cut = line.slice(0, MAX_LINE_LENGTH);
    const size = Buffer.byteLength(JSON.stringify(cut)) + 1;
    if (bytes + size > MAX_BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(cut);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

/** Writes to stderr, which also goes to the stitch's log: not in a message, because the text may be about a message. */
function complain(text) {
  console.error(`crossstitch: ${text}`);
}
