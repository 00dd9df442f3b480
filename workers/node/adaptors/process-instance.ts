import type { ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import { orLate } from "../../../src/bounded-wait.ts";
import type { Message } from "../../../src/domain/message.ts";
import type { ProcessSpec } from "../../../src/domain/stitch/spec.ts";
import type { Health, StepError } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import { Conversation } from "../protocol/conversation.ts";
import type { EscapedProcesses } from "../processes/escaped-processes.ts";
import type { Handles } from "../processes/handles.ts";
import type { Launches } from "../processes/launches.ts";
import type { Orphans } from "../processes/orphans.ts";
import type { OutputPace } from "../logs/output-pace.ts";
import { type FromStitch, ProcessV1Reader } from "../protocol/process-v1.ts";
import { GONE_LIMIT_MS, groupGone, signalGroup, whatIsLeft } from "../processes/process-group.ts";
import type { Watchdog } from "../processes/watchdog.ts";
import type { Delivered, Exit, StartContext, Started, StitchInstance } from "../protocol/adaptor.ts";
import { CheckLoop } from "./check-loop.ts";
import { earlyExitText, refusalText, type Wanted } from "./failed-launch.ts";
import { FirstAndLastLines } from "./first-and-last-lines.ts";
import type { Launcher, SpawnCall } from "./launcher.ts";
import { textOf, MAX_LINE_BYTES } from "../protocol/line-splitter.ts";
import { type OutputLine, OutputSplitter } from "./output-splitter.ts";
import { probeOf } from "./probe-of.ts";
import { ProgramHealth } from "./program-health.ts";
import { ALIVE_AFTER_MS, staysAlive } from "./stays-alive.ts";

/** How long the output of an exited program is waited for: a process that left its group may hold the pipe for ever. */
const DRAIN_MS = 500;
/** An unfinished line goes to the log after this time: it may be a question, or the program's last output. */
const SILENCE_MS = 2000;
/** Reading output lets other work run after this time. */
const SLICE_MS = 2;
/** Bytes that are searched for ProcessV1 at a time: 64 KiB of the smallest messages took 20 to 140 ms. */
const PIECE_BYTES = 1024;

export const failed = (error: StepError): Started => ({ kind: "failed", error });

export type ProcessAdaptorOptions = {
  readonly watchdog: Watchdog;
  readonly escaped: EscapedProcesses;
  readonly launches: Pick<Launches, "began">;
  readonly launcher: Pick<Launcher, "launch" | "isUnderWay" | "refusal">;
  readonly handles: Pick<Handles, "refusal">;
  /** Processes of earlier runs of the worker: those of a stitch must be gone before the stitch is started. */
  readonly orphans: Pick<Orphans, "holdUp">;
  readonly pace: OutputPace;
  readonly nowMs: () => number;
};

/** Thrown when a program does not end although it was killed. */
class StillThere extends Error {
  override readonly name = "StillThere";
  constructor(pid: number, isRefused: boolean, node: string) {
    const why = isRefused
      ? "is another user's by now, and this worker may not end it"
      : `was killed and is still there after ${GONE_LIMIT_MS} ms`;
    super(`its process ${pid} ${why}; end it on ${node}, and send the command again`);
  }
}

export class ProcessInstance implements StitchInstance {
  readonly pid: number;
  readonly started: Promise<Started>;
  readonly exited: Promise<Exit>;
  readonly deliver?: (message: Message) => Promise<Delivered> | null;
  readonly #context: StartContext;
  readonly #options: ProcessAdaptorOptions;
  readonly #conversation: Conversation | null;
  readonly #check: CheckLoop | null;
  readonly #errors = new FirstAndLastLines();
  /** Resolves when the leader of the group is gone. */
  readonly #ended: Promise<Exit>;
  readonly #call: SpawnCall;
  readonly #wanted: Wanted;
  /** The first line that one of the launch's tools printed: what stopped the launch. */
  #toolSaid: string | null = null;
  /** Why the launch did not become its program. */
  #notLaunched: string | null = null;
  #stopping = false;
  /** The grace of the stop is over. */
  #killing = false;
  #groupIsGone = false;
  #hasEnded = false;
  /** The last signal found only processes of another user. */
  #isRefused = false;

  constructor(
    child: ChildProcess,
    pid: number,
    context: StartContext,
    spec: ProcessSpec,
    call: SpawnCall,
    wanted: Wanted,
    options: ProcessAdaptorOptions,
  ) {
    this.pid = pid;
    this.#call = call;
    this.#wanted = wanted;
    this.#context = context;
    this.#options = options;
    const mortal = { stitch: context.id, graceMs: spec.stopGraceMs };
    options.watchdog.guard(pid, spec.onDisconnect === "stop" ? mortal : null);
    const forgetLaunch = options.launches.began(context.id, pid);
    child.on("error", (error) => void context.log("system", `error: ${error.message}`));
    // A program that does not read its input must not end the worker when the pipe breaks.
    child.stdin?.on("error", () => undefined);
    const input = spec.protocol === "process-v1" ? child.stdin : null;
    const health = new ProgramHealth({ heartbeats: input !== null, check: spec.check !== undefined }, context.onHealth);
    const onHealth = (its: Health) => health.byHeartbeats(its);
    this.#conversation = input === null ? null : new Conversation({ ...context, onHealth }, input, options.nowMs);
    this.#check =
      spec.check === undefined
        ? null
        : new CheckLoop({
            check: spec.check,
            probe: probeOf(spec.check, { ...options, context, spec }),
            onHealth: (its, failure) => health.byCheck(its, failure),
            say: (text) => this.#say(text),
          });
    const conversation = this.#conversation;
    if (conversation !== null) this.deliver = (message) => conversation.deliver(message);
    const drained = Promise.all([this.#readOutput(child.stdout), this.#readErrors(child.stderr)]);
    const ended = new Promise<Exit>((resolve) => {
      child.once("exit", (code, signal) => {
        this.#hasEnded = true;
        resolve({ code, signal });
      });
    });
    this.#ended = ended;
    options.escaped.leads(pid, ended);
    this.exited = ended.then(async (exit) => {
      this.#conversation?.fallSilent();
      const checked = this.#check?.stop();
      // The processes that the leader started end with it, inside its group and
      // outside. During a stop, the group has the same grace as the leader.
      await this.#attempt(() => groupGone(pid, () => !this.#stopping || this.#killing));
      await this.#attempt(() => this.#tellWhatIsLeft());
      this.#groupIsGone = true;
      // The watchdog reports a group before it ends it. That report is read in this turn at the latest.
      await new Promise((resolve) => setImmediate(resolve));
      const withLease = options.watchdog.release(pid);
      // A check may just have started a command. The next run must not find it, nor take it for one of its own.
      await this.#attempt(() => checked);
      await this.#attempt(() => this.#endEscaped());
      await this.#attempt(forgetLaunch);
      await orLate(drained, DRAIN_MS);
      // Only after the last output, which may acknowledge something.
      this.#conversation?.stop();
      child.stdout?.destroy();
      child.stderr?.destroy();
      const refusal = options.launcher.refusal(exit.code, this.#toolSaid);
      if (refusal === null) return { ...exit, withLease, ...this.#printed() };
      this.#notLaunched = await refusalText(refusal, this.#wanted);
      return { code: null, signal: null, withLease, neverRan: true };
    });
    this.started = this.#watchStart(ended, spec);
    this.#conversation?.start();
  }

  /** Why the program does not count as running yet, if that is its check. */
  get notUpBecause(): string | null {
    return this.#check?.failure ?? null;
  }

  get heldMs(): number {
    return this.#conversation?.heldMs ?? 0;
  }

  /** Does a part of the cleanup. A failure goes to the stitch's log; the stitch has ended in any case. */
  async #attempt(work: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#say(`clearing it away failed: ${errorText(error)}`);
    }
  }

  #say(text: string): void {
    void this.#context.log("system", text);
  }

  /** The group may hold processes that this worker may not end, or that do not end: logs them. */
  async #tellWhatIsLeft(): Promise<void> {
    const { others, killed } = await whatIsLeft(this.pid);
    if (others.length > 0)
      this.#say(`${others.length} of its processes are another user's and could not be ended: ${named(others)}`);
    if (killed.length > 0)
      this.#say(`${killed.length} of its processes were killed and are still there: ${named(killed)}`);
  }

  async #endEscaped(): Promise<void> {
    const { killed, refused } = await this.#options.escaped.end(this.#context.id);
    const had = "of its processes had left its process group and";
    if (killed.length > 0) this.#say(`${killed.length} ${had} were killed: ${named(killed)}`);
    if (refused.length > 0) this.#say(`${refused.length} ${had} could not be ended: ${named(refused)}`);
  }

  async #readOutput(stream: Readable | null): Promise<void> {
    const conversation = this.#conversation;
    if (stream === null) return;
    if (conversation === null) {
      await this.#readLines(stream, "stdout");
      return;
    }
    const reader = new ProcessV1Reader();
    await this.#read(
      stream,
      (chunk) => foundIn(chunk, reader),
      (found) => conversation.take(found),
    );
    conversation.outputEnded();
  }

  async #readErrors(stream: Readable | null): Promise<void> {
    if (stream !== null) await this.#readLines(stream, "stderr");
  }

  async #readLines(stream: Readable, source: "stdout" | "stderr"): Promise<void> {
    const splitter = new OutputSplitter(MAX_LINE_BYTES);
    const take = (line: OutputLine) => {
      const text = textOf(line, MAX_LINE_BYTES);
      if (source === "stderr" && this.#isToolsWord(text)) return null;
      if (source === "stderr") this.#errors.push(text);
      const wait = this.#context.log(source, text, line.continued);
      if (line.dropped === 0) return wait;
      const note = `the line before was cut: ${line.dropped} more bytes are not kept`;
      return this.#context.log("system", note) ?? wait;
    };
    let silence: NodeJS.Timeout | undefined;
    const pause = () => {
      // At most one line in 2 s: there is no need to wait for the log.
      for (const line of splitter.pause()) void take(line);
    };
    // While a chunk is read, its lines may wait for the log. A silence begins only with `onRest`.
    const split = (chunk: Buffer | null) => {
      clearTimeout(silence);
      return chunk === null ? splitter.end() : splitter.push(chunk);
    };
    const onRest = () => {
      if (splitter.isUnfinished) silence = setTimeout(pause, SILENCE_MS).unref();
    };
    await this.#read<OutputLine>(stream, split, take, onRest);
    clearTimeout(silence);
  }

  /** Reads a stream to its end at a pace that the worker can afford. Memory is bounded by one chunk and what `split` keeps. */
  async #read<T>(
    stream: Readable,
    split: (chunk: Buffer | null) => Iterable<T>,
    take: (part: T) => Promise<void> | null,
    onRest: () => void = () => undefined,
  ): Promise<void> {
    const reader = this.#options.pace.reader();
    const hand = async (chunk: Buffer | null) => {
      let sinceMs = performance.now();
      for (const part of split(chunk)) {
        const wait = take(part);
        const ms = performance.now() - sinceMs;
        if (wait !== null) await wait;
        else if (ms < SLICE_MS) continue;
        await (reader.spent(ms) ?? new Promise((resolve) => setImmediate(resolve)));
        sinceMs = performance.now();
      }
      const pause = reader.spent(performance.now() - sinceMs);
      if (pause !== null) await pause;
    };
    try {
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        await hand(chunk);
        onRest();
      }
    } catch {
      // The pipe broke or was destroyed. That is the end of the output; what came before is kept.
    }
    await hand(null);
  }

  /** Does this line come from a tool of the launch, and not from the program? The result of the launch reports it. */
  #isToolsWord(line: string): boolean {
    const isOne = this.#call.tools.some((tool) => line.startsWith(tool));
    if (isOne) this.#toolSaid ??= line;
    return isOne;
  }

  #printed(): { readonly stderrTail?: string } {
    const { text } = this.#errors;
    return text === "" ? {} : { stderrTail: text };
  }

  async #watchStart(ended: Promise<Exit>, spec: ProcessSpec): Promise<Started> {
    const { up, cancel } = this.#up();
    const first = await Promise.race([up, ended]);
    cancel();
    if (first === "up") return { kind: "running" };
    await this.exited;
    if (this.#notLaunched !== null) return failed({ code: "spawn_failed", message: this.#notLaunched });
    if (first.code === 0 && spec.protocol === "none" && spec.restart.policy !== "always") return { kind: "finished" };
    const how = first.signal === null ? `with code ${first.code}` : `by ${first.signal}`;
    const before = this.#check?.hasBegun
      ? `before it was green: ${this.#check.failure ?? "no check had ended"}`
      : this.#conversation === null
        ? `within ${ALIVE_AFTER_MS} ms of its start`
        : 'before it answered a heartbeat; a program that speaks no ProcessV1 needs "protocol": "none"';
    const why = this.#stopping ? null : await earlyExitText(first.code, this.#wanted);
    return failed({
      code: "exited_early",
      message: this.#stopping
        ? "it was stopped while it started"
        : `it exited ${how} ${before}${why === null ? "" : `: ${why}`}`,
      ...this.#printed(),
    });
  }

  /** Resolves when the program counts as running: it has shown that it runs, and then its check has succeeded. */
  #up(): { up: Promise<"up">; cancel: () => void } {
    const check = this.#check;
    const isUnderWay = () => this.#call.tools.length > 0 && this.#options.launcher.isUnderWay(this.pid);
    const { up: runs, cancel } =
      this.#conversation === null ? staysAlive(isUnderWay) : { up: this.#conversation.heard, cancel: () => undefined };
    const isGreen = runs.then(() => {
      check?.start();
      return check?.green;
    });
    return { up: isGreen.then(() => "up"), cancel };
  }

  async stop(graceMs: number): Promise<Exit> {
    const first = !this.#stopping;
    this.#stopping = true;
    // Not awaited: `exited` waits for it.
    void this.#check?.stop();
    if (first && graceMs > 0 && this.#conversation !== null) {
      this.#conversation.exit();
      // Only the leader gets this message. When it has ended, the others of its group get a signal.
      await orLate(this.#ended, graceMs);
    }
    this.#conversation?.fallSilent();
    if (graceMs > 0) {
      this.#signal("SIGTERM");
      await orLate(this.exited, graceMs);
    }
    this.#killing = true;
    this.#signal("SIGKILL");
    await orLate(this.#ended, GONE_LIMIT_MS);
    if (!this.#hasEnded) throw new StillThere(this.pid, this.#isRefused, this.#context.node);
    return this.exited;
  }

  #signal(signal: NodeJS.Signals): void {
    // After the end of the group, its number may belong to another one.
    if (!this.#groupIsGone) this.#isRefused = signalGroup(this.pid, signal) === "refused";
  }
}

/** The contents of output, a little at a time: one message may bring a hundred thousand lines for the log. */
function* foundIn(chunk: Buffer | null, reader: ProcessV1Reader): Generator<FromStitch, void> {
  if (chunk === null) for (const found of reader.end()) yield* lineByLine(found);
  else
    for (let at = 0; at < chunk.length; at += PIECE_BYTES)
      for (const found of reader.push(chunk.subarray(at, at + PIECE_BYTES))) yield* lineByLine(found);
}

function* lineByLine(found: FromStitch): Generator<FromStitch, void> {
  if (found.kind === "unreadable") {
    for (const line of found.lines) yield { kind: "line", line };
    yield { ...found, lines: [] };
  } else if (found.kind === "message" && found.message.command === "logs")
    for (const line of found.message.lines) yield { kind: "message", message: { command: "logs", lines: [line] } };
  else yield found;
}

const named = (pids: readonly number[]): string => pids.slice(0, 20).join(", ");
