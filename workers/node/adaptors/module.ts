import { AsyncLocalStorage } from "node:async_hooks";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import * as z from "zod";
import { parseFullGroup } from "../../../src/domain/group.ts";
import { Heartbeats } from "../heartbeats.ts";
import {
  type Adaptor,
  type Exit,
  neverStarted,
  type StartContext,
  type Started,
  type StitchInstance,
} from "./adaptor.ts";

/** What a module is given: one for each stitch that is made of it, the same for its whole run. */
export type ModuleContext = {
  readonly id: string;
  readonly node: string;
  readonly group: string;
  readonly application: string;
  readonly component: string;
  readonly version: string;
  /** A folder of the stitch's own, which exists. */
  readonly dataDir: string;
  /** Aborted when the stitch is to stop. */
  readonly signal: AbortSignal;
  /** The module's own: nobody else reads or writes it. */
  state: unknown;
  log(...lines: string[]): void;
};

const hook = z.custom<(context: ModuleContext) => unknown>(
  (value) => typeof value === "function",
  "must be a function",
);
const moduleExports = z.object({ start: hook, heartbeat: hook.optional(), stop: hook.optional() });
/** What a module exports: `start`, and what it likes of the others. A heartbeat that it does not take is answered for it. */
export type StitchModule = z.output<typeof moduleExports>;

/** Thrown where a module cannot be loaded; says which, and why. */
export class ModuleRefused extends Error {
  override readonly name = "ModuleRefused";
}

/** Loads the modules that a node offers. @throws ModuleRefused */
export async function loadModules(paths: Readonly<Record<string, string>>): Promise<Map<string, StitchModule>> {
  const loaded = new Map<string, StitchModule>();
  for (const [name, path] of Object.entries(paths)) {
    const imported: unknown = await import(pathToFileURL(resolve(path)).href).catch((cause: unknown) => {
      throw new ModuleRefused(`STITCH_MODULES: ${name}=${path} cannot be loaded: ${textOf(cause)}`, { cause });
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

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Whose code is running: an error that nobody caught is told to the stitch it came from. */
const running = new AsyncLocalStorage<ModuleInstance>();
let guarded = false;

/** What a module throws in a timer, or rejects unheard, ends its stitch; what anything else does ends the process as ever. */
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

/** Runs stitches that are modules inside the worker. What blocks the event loop there blocks the node: it cannot be contained. */
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
  #ending = false;

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
        for (const line of lines) void context.log("log", String(line));
      },
    };
    this.#heartbeats = new Heartbeats({
      everyMs: context.spec.heartbeatMs,
      send: (number) => this.#beat(number),
      onHealth: context.onHealth,
    });
    this.started = Promise.race([this.#start(), this.#failedFirst()]);
  }

  /** Calls into the module; what it throws at once comes out as a rejection, too. */
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
    if (!this.#ending) this.#heartbeats.start();
    return { kind: "running" };
  }

  async #failedFirst(): Promise<Started> {
    const exit = await this.exited;
    const message =
      exit.code === 0 ? "it was stopped while it started" : "it failed before its start had ended; its log says how";
    return { kind: "failed", error: { code: "exited_early", message } };
  }

  #beat(number: number): void {
    const { heartbeat } = this.#module;
    if (heartbeat === undefined) {
      this.#heartbeats.answered(number);
      return;
    }
    this.#call(heartbeat).then(
      () => this.#heartbeats.answered(number),
      (error: unknown) => void this.#context.log("system", `its heartbeat failed: ${textOf(error)}`),
    );
  }

  /** Ends it because of an error that it did not catch. Safe to repeat. */
  fail(error: unknown): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    for (const line of stack.split("\n")) void this.#context.log("stderr", line);
    this.#end({ code: 1, signal: null });
  }

  #end(exit: Exit): void {
    this.#ending = true;
    this.#heartbeats.stop();
    this.#abort.abort();
    this.#gone.resolve(exit);
  }

  async stop(graceMs: number): Promise<Exit> {
    if (!this.#ending) {
      this.#ending = true;
      this.#heartbeats.stop();
      this.#abort.abort();
      const { stop } = this.#module;
      if (stop === undefined) this.#gone.resolve({ code: 0, signal: null });
      else
        this.#call(stop).then(
          () => this.#end({ code: 0, signal: null }),
          (error: unknown) => this.fail(error),
        );
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<null>((resolve) => {
      timer = setTimeout(() => resolve(null), graceMs);
    });
    const exit = await Promise.race([this.exited, late]);
    clearTimeout(timer);
    if (exit !== null) return exit;
    void this.#context.log("system", `its stop had not ended after ${graceMs} ms; what it still does cannot be ended`);
    this.#end({ code: null, signal: null });
    return this.exited;
  }
}
