import { AsyncLocalStorage } from "node:async_hooks";
import { randomInt } from "node:crypto";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import * as z from "zod";
import { LATE, orLate, within } from "../../../src/bounded-wait.ts";
import { parseFullGroup } from "../../../src/domain/names/group.ts";
import { dataText, MAX_DATA_BYTES, type Message } from "../../../src/domain/message.ts";
import { errorText } from "../../../src/error-text.ts";
import { Heartbeats } from "../protocol/stitch-heartbeats.ts";
import { HeldTime } from "../sending/held-time.ts";
import type { SendTo } from "../sending/recipients.ts";
import { STOP_WINDOW_MS } from "../processes/watchdog.ts";
import {
  type Adaptor,
  type Delivered,
  type Exit,
  neverStarted,
  type StartContext,
  type Started,
  type StitchInstance,
} from "../protocol/adaptor.ts";

/** The context of a module: each stitch that is made of the module has its own, the same for its whole run. */
export type ModuleContext = {
  readonly id: string;
  readonly node: string;
  readonly group: string;
  readonly application: string;
  readonly component: string;
  readonly version: string;
  /** The stitch's own folder, which exists. */
  readonly dataDir: string;
  /** Aborted when the stitch is to stop. */
  readonly signal: AbortSignal;
  /** For the module alone: nobody else reads or writes it. */
  state: unknown;
  log(...lines: string[]): void;
  /**
   * Sends a message to a stitch, by its bare or full id, or to a group. Data that is not a string is sent as its JSON text.
   * Resolves when the message is stored for its recipients. @throws an error with a `code` if it cannot be sent.
   */
  send(to: SendTo, data: unknown, channel?: string): Promise<void>;
  /**
   * Sends a message to a stitch and resolves with its answer. @throws
   * like `send`, and if no answer comes within `timeoutMs` (5000).
   */
  ask(stitch: string, data: unknown, options?: { channel?: string; timeoutMs?: number }): Promise<ModuleMessage>;
};

/** A message that a module gets. `from`: the sender's full id, or `api:<request>` for a client. */
export type ModuleMessage = {
  readonly from: string;
  readonly channel: string;
  readonly data: string;
  /** The data, parsed. @throws SyntaxError */
  json(): unknown;
};

/**
 * Bounds of one stitch's messages that are not stored yet, and of their
 * bytes: messages that nobody waits for must not fill the memory.
 */
const MOST_UNDER_WAY = 1000;
const MOST_BYTES_UNDER_WAY = 16 * 1024 * 1024;
const ASK_MS = 5000;

const hook = z.custom<(context: ModuleContext) => unknown>(
  (value) => typeof value === "function",
  "must be a function",
);
const messageHook = z.custom<(message: ModuleMessage, context: ModuleContext) => unknown>(
  (value) => typeof value === "function",
  "must be a function",
);
const moduleExports = z.object({
  start: hook,
  message: messageHook.optional(),
  heartbeat: hook.optional(),
  stop: hook.optional(),
});
/**
 * The exports of a module: `start`, and any of the others. Without `heartbeat`, the node answers
 * heartbeats for the module. `message` acknowledges a message when it resolves, answers it with the
 * result (if not undefined), and fails when it throws.
 */
export type StitchModule = z.output<typeof moduleExports>;

/** Thrown when a module cannot be loaded. The message says which one, and why. */
export class ModuleRefused extends Error {
  override readonly name = "ModuleRefused";
}

/** Loads the modules that a node offers. @throws ModuleRefused */
export async function loadModules(paths: Readonly<Record<string, string>>): Promise<Map<string, StitchModule>> {
  const loaded = new Map<string, StitchModule>();
  for (const [name, path] of Object.entries(paths)) {
    const imported: unknown = await import(pathToFileURL(resolve(path)).href).catch((cause: unknown) => {
      throw new ModuleRefused(`STITCH_MODULES: ${name}=${path} cannot be loaded: ${errorText(cause)}`, { cause });
    });
    const checked = moduleExports.safeParse(imported);
    if (!checked.success)
      throw new ModuleRefused(
        `STITCH_MODULES: ${name}=${path} is no module of a stitch: ${checked.error.issues
          .map(({ path: [field = "it"], message }) => `${String(field)} ${message}`)
          .join("; ")}`,
      );
    loaded.set(name, checked.data);
  }
  return loaded;
}

/** Data as the text that is sent. @throws if it cannot be sent. */
function checkedText(data: unknown): string {
  const text: unknown = dataText(data);
  if (typeof text !== "string") throw new TypeError(`${typeof data} is neither a string nor JSON`);
  if (Buffer.byteLength(text) > MAX_DATA_BYTES) throw new RangeError(`a message is at most ${MAX_DATA_BYTES} bytes`);
  return text;
}

const asModuleMessage = ({ from, channel, data }: Message): ModuleMessage => ({
  from,
  channel,
  data,
  json: () => JSON.parse(data) as unknown,
});

/**
 * The reason with which every module's signal is aborted. It is made once:
 * a new one takes a stack trace, and costs more than the rest of a stop.
 */
const STOPPED = new DOMException("This operation was aborted", "AbortError");

/** The stitch whose code runs, so that an error that nobody caught goes to the stitch that it came from. */
const running = new AsyncLocalStorage<ModuleInstance>();
let guarded = false;

/**
 * An uncaught error of a module, in a timer or an unhandled rejection,
 * ends only its stitch. Other uncaught errors end the process as usual.
 */
function guardProcess(): void {
  if (guarded) return;
  guarded = true;
  const onError = (error: unknown) => {
    const instance = running.getStore();
    if (instance === undefined) throw error;
    instance.fail(error);
  };
  process.on("uncaughtException", onError);
  process.on("unhandledRejection", onError);
}

/**
 * Runs modules as stitches inside the worker. A module that blocks
 * the event loop blocks the node; that cannot be prevented.
 */
export function moduleAdaptor(modules: ReadonlyMap<string, StitchModule>): Adaptor {
  if (modules.size > 0) guardProcess();
  return (context) => {
    const { spec } = context;
    if (spec.adaptor !== "module") return neverStarted("this adaptor runs modules only");
    const module = modules.get(spec.module);
    if (module === undefined)
      return neverStarted(
        `${context.node} offers no module "${spec.module}"; it offers ${[...modules.keys()].join(", ") || "none"}`,
      );
    return new ModuleInstance(module, context);
  };
}

class ModuleInstance implements StitchInstance {
  readonly pid = null;
  readonly started: Promise<Started>;
  readonly exited: Promise<Exit>;
  readonly #module: StitchModule;
  readonly #context: StartContext;
  readonly #own: ModuleContext;
  readonly #abort = new AbortController();
  readonly #gone = Promise.withResolvers<Exit>();
  readonly #heartbeats: Heartbeats;
  readonly #asked = new Map<number, (answer: Message) => void>();
  /** Begins at a random number, so that an answer to an earlier start of the stitch is not taken for an answer to this one. */
  #lastAsked = randomInt(2 ** 47);
  /** Messages that the module works on. */
  readonly #working = new Set<PromiseWithResolvers<Delivered>>();
  readonly #held = new HeldTime(() => performance.now());
  #underWay = 0;
  #bytesUnderWay = 0;
  #ending = false;
  #withLease = false;

  constructor(module: StitchModule, context: StartContext) {
    this.#module = module;
    this.#context = context;
    this.exited = this.#gone.promise;
    const parts = parseFullGroup(context.group);
    this.#own = {
      id: context.id,
      node: context.node,
      group: context.group,
      application: parts?.application ?? "",
      component: parts?.component ?? "",
      version: parts?.version ?? "",
      dataDir: context.dataDir,
      signal: this.#abort.signal,
      state: undefined,
      log: (...lines) => {
        for (const line of lines.flatMap((text) => String(text).split("\n"))) void context.log("log", line);
      },
      send: (to, data, channel = "") => this.#send(to, channel, data, null),
      ask: (stitch, data, asking) => this.#ask(stitch, data, asking),
    };
    this.#heartbeats = new Heartbeats({
      everyMs: context.spec.heartbeatMs,
      send: (number) => this.#beat(number),
      onHealth: context.onHealth,
    });
    this.started = Promise.race([this.#start(), this.#failedFirst()]);
  }

  /** Calls a hook of the module. An error that the hook throws at once becomes a rejection, too. */
  #call(hook: (context: ModuleContext) => unknown): Promise<unknown> {
    return running.run(this, async () => hook(this.#own));
  }

  async #start(): Promise<Started> {
    try {
      await this.#call(this.#module.start);
    } catch (error) {
      this.fail(error);
      return this.#failedFirst();
    }
    // A successful start is the first sign of life.
    if (!this.#ending) this.#heartbeats.start(true);
    return { kind: "running" };
  }

  async #failedFirst(): Promise<Started> {
    const exit = await this.exited;
    const message =
      exit.code === 0 ? "it was stopped while it started" : "it failed before its start had ended; its log says how";
    return { kind: "failed", error: { code: "exited_early", message } };
  }

  async #send(to: SendTo, channel: string, data: unknown, ref: number | null): Promise<void> {
    if (channel.startsWith("_")) throw new RangeError(`the channel "${channel}" is the system's`);
    const text = checkedText(data);
    if (this.#underWay >= MOST_UNDER_WAY || this.#bytesUnderWay > MOST_BYTES_UNDER_WAY)
      throw new RangeError(`${this.#underWay} messages are under way; wait for some of them`);
    const onLost = (error: unknown) => {
      const name = "stitch" in to ? to.stitch : to.group;
      void this.#context.log("system", `what it sent to ${name} did not reach everybody: ${errorText(error)}`);
    };
    // The module itself decides whether to wait for a send.
    const told = { goOn: () => undefined, onLost };
    await this.#held.during(this.#count(text, this.#context.send(to, channel, text, ref, told)));
  }

  /** Counts a message as under way until it is stored. */
  async #count(text: string, sent: Promise<void>): Promise<void> {
    this.#underWay += 1;
    this.#bytesUnderWay += text.length;
    try {
      await sent;
    } finally {
      this.#underWay -= 1;
      this.#bytesUnderWay -= text.length;
    }
  }

  async #ask(
    stitch: string,
    data: unknown,
    { channel = "", timeoutMs = ASK_MS }: { channel?: string; timeoutMs?: number } = {},
  ): Promise<ModuleMessage> {
    this.#lastAsked += 1;
    const ref = this.#lastAsked;
    const { promise: answer, resolve, reject } = Promise.withResolvers<Message>();
    this.#asked.set(ref, resolve);
    this.#send({ stitch }, channel, data, ref).catch(reject);
    try {
      return asModuleMessage(await within(timeoutMs, answer, `${stitch} did not answer within ${timeoutMs} ms`));
    } finally {
      this.#asked.delete(ref);
    }
  }

  get heldMs(): number {
    return this.#held.totalMs;
  }

  deliver(message: Message): Promise<Delivered> {
    const { message: take } = this.#module;
    // For a late answer, or a module that takes no messages, there is nobody to tell.
    if (message.re !== null) this.#asked.get(message.re)?.(message);
    if (message.re !== null || take === undefined) return Promise.resolve({ kind: "acked" });
    const work = Promise.withResolvers<Delivered>();
    this.#working.add(work);
    void this.#take(take, message).then((how) => {
      this.#working.delete(work);
      work.resolve(how);
    });
    return work.promise;
  }

  async #take(take: NonNullable<StitchModule["message"]>, message: Message): Promise<Delivered> {
    try {
      const reply = await running.run(this, async () => take(asModuleMessage(message), this.#own));
      if (reply === undefined) return { kind: "acked" };
      const text = checkedText(reply);
      const sent = this.#count(text, this.#context.reply(message, message.channel, text));
      if (this.#bytesUnderWay > MOST_BYTES_UNDER_WAY) await sent;
      return { kind: "replied", sent };
    } catch (error) {
      return { kind: "failed", reason: errorText(error) };
    }
  }

  #beat(number: number): void {
    const { heartbeat } = this.#module;
    if (heartbeat === undefined) {
      this.#heartbeats.answered(number);
      return;
    }
    this.#call(heartbeat).then(
      () => this.#heartbeats.answered(number),
      (error: unknown) => void this.#context.log("system", `its heartbeat failed: ${errorText(error)}`),
    );
  }

  /** Ends the stitch because of an error that the module did not catch. Safe to repeat. */
  fail(error: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    for (const line of stack.split("\n")) void this.#context.log("stderr", line);
    this.#end({ code: 1, signal: null });
  }

  #end(exit: Exit): void {
    this.#tellToEnd();
    this.#gone.resolve({ ...exit, withLease: this.#withLease });
    for (const { resolve } of this.#working) resolve({ kind: "failed", reason: "it ended before it answered" });
    this.#working.clear();
  }

  #tellToEnd(): void {
    this.#ending = true;
    this.#heartbeats.stop();
    // The listeners are the module's code. Their errors are this stitch's fault, not the worker's.
    running.run(this, () => this.#abort.abort(STOPPED));
  }

  leaseIsOver(): void {
    const { onDisconnect, stopGraceMs } = this.#context.spec;
    if (onDisconnect === "keep" || this.#ending) return;
    this.#withLease = true;
    void this.stop(Math.min(stopGraceMs, STOP_WINDOW_MS));
  }

  /** Finishes the current messages first: the next start of the stitch must not get handled messages again. */
  async #finish(): Promise<void> {
    await Promise.all([...this.#working].map(({ promise }) => promise));
    if (this.#module.stop !== undefined) await this.#call(this.#module.stop);
  }

  async stop(graceMs: number): Promise<Exit> {
    if (!this.#ending) {
      this.#tellToEnd();
      this.#finish().then(
        () => this.#end({ code: 0, signal: null }),
        (error: unknown) => this.fail(error),
      );
    }
    const exit = await orLate(this.exited, graceMs);
    if (exit !== LATE) return exit;
    void this.#context.log("system", `its stop had not ended after ${graceMs} ms; what it still does cannot be ended`);
    this.#end({ code: null, signal: null });
    return this.exited;
  }
}
