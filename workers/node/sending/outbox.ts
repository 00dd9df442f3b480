import { pause } from "../../../src/bounded-wait.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import { asLetter, type Message } from "../../../src/domain/message.ts";
import type { Routes } from "../../../src/master/ports.ts";
import type { Burial, PutResult, Posted } from "../../../src/redis/inbox/put-messages.ts";
import { Backlog, type Kept, pairOf } from "./backlog.ts";
import { KnownStitches } from "./known-stitches.ts";
import { SendQueue, type QueuedMessage } from "./send-queue.ts";
import { DeadLetterPace } from "./dead-letter-pace.ts";
import { type Place, Recipients, type RecipientsOptions, type SendTo } from "./recipients.ts";

/** Delay before a full inbox, or a Redis that is away, is tried again. */
const RETRY_MS = 200;
/**
 * How long a message of a stitch waits for room; then it is a dead letter. Long enough for a recipient that is slow or
 * starts again. Short, because the sender is held up if too much waits, and with it its messages to all other recipients.
 */
export const ROOM_MS = 5000;
const MOST_DEAF = 10_000;

type OutboxOptions = RecipientsOptions & {
  /** Messages sent through it do not wait for the node's other requests to Redis. */
  readonly routing: Routes;
  readonly onError: (error: unknown) => void;
};

/** A stitch that sends a message and learns its result while it goes on. */
type Speaker = {
  /** There is no room for the message. If several in a row find none, this is called for the first one. */
  readonly onFull: () => void;
  /** The message waits here, and its sender may go on. */
  readonly goOn: () => void;
  /** One recipient does not get the message, although others do. */
  readonly onLost: (error: unknown) => void;
};

/**
 * How a message waits for room. With a speaker it waits at most `ROOM_MS`, then it is a dead letter. Otherwise it is given
 * up at `untilMs`; without `untilMs` it waits as long as needed.
 */
export type Waits = { readonly speaker?: Speaker; readonly untilMs?: number };

type Sending = QueuedMessage &
  Kept & {
    readonly message: Message;
    readonly waits: Waits;
    readonly stored: PromiseWithResolvers<void>;
    /** The sender need not wait for the message any more; called once. */
    readonly goOn: () => void;
    /** Since when the message waits for room, for itself or behind another message. */
    sinceMs: number | null;
    /** The message is counted in the backlog. */
    isKept: boolean;
  };

/** The messages for one node. `rest`: set during a pause without work; aborting it ends the pause. */
type Destination = { readonly queue: SendQueue<Sending>; rest: AbortController | null };

/**
 * Sends the messages of a node's stitches. A message is sent when it is stored in the inboxes of its recipients' nodes.
 * Messages for one node go in batches, one at a time. Messages of one sender go out in order, no matter how long it takes
 * to find their recipients. So messages of one sender to one stitch keep their order.
 *
 * A recipient without room does not hold up others. Its messages wait here, and their sender goes on, until too much waits.
 * Then the sender is held up, but never longer than a message waits (`ROOM_MS`). A message that is given up is a dead
 * letter. From then on the recipient counts as deaf to this sender: a message without room is a dead letter at once, until
 * the recipient has had room for all messages for `ROOM_MS`. If the recipient's node is away as well, the message is a dead
 * letter at once. A sender that causes only dead letters is slowed.
 */
export class Outbox {
  readonly #options: OutboxOptions;
  readonly #destinations = new Map<string, Destination>();
  readonly #backlog = new Backlog();
  /** By sender and recipient: the time until which the recipient counts as deaf. */
  readonly #deaf = new Map<string, number>();
  /** The work in progress: sends to destinations, and writes of dead letters. */
  readonly #working = new Set<Promise<void>>();
  readonly #pace = new DeadLetterPace();
  readonly #known: KnownStitches;
  readonly #recipients: Recipients;
  /** By sender: the last message whose recipient is being looked up, or that is slowed. */
  readonly #lookups = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: OutboxOptions) {
    this.#options = options;
    this.#known = new KnownStitches(options.routing);
    this.#recipients = new Recipients(options);
  }

  /**
   * Gives up the messages that wait: they were not stored, and their senders are ending. Resolves when the messages whose
   * senders did not wait are among the dead letters. Safe to repeat.
   */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const { rest } of this.#destinations.values()) rest?.abort();
    while (this.#working.size > 0) await Promise.all(this.#working);
  }

  /**
   * Sends a message. Resolves when it is stored; for several recipients, when at least one of them has it.
   * @throws RequestError `no_recipient`, `ambiguous_stitch`, `inbox_full`, `shutting_down`.
   */
  async send(to: SendTo, message: Omit<Message, "to">, waits: Waits = {}): Promise<void> {
    const { from, data } = message;
    const places = this.#recipients.find(to);
    const before = this.#lookups.get(from);
    const isPaced = waits.speaker !== undefined && this.#pace.isSlow(from);
    if (before === undefined && !isPaced && !(places instanceof Promise)) return this.#post(places, message, waits);
    const turn = Promise.allSettled([before, places]).then(async () => {
      // An earlier message of the sender may have arrived meanwhile; then the sender is not slowed any more.
      const delayMs = isPaced ? this.#pace.delayMs(from, data.length, this.#options.nowMs()) : 0;
      if (delayMs > 0) await pause(delayMs, this.#stopping.signal);
    });
    this.#lookups.set(from, turn);
    await turn;
    if (this.#lookups.get(from) === turn) this.#lookups.delete(from);
    return this.#post(await places, message, waits);
  }

  /** Queues the message for all places in one turn, so that later messages come after it. */
  async #post(places: readonly Place[], message: Omit<Message, "to">, waits: Waits): Promise<void> {
    let held = places.length;
    const goOn = () => {
      held -= 1;
      if (held === 0) waits.speaker?.goOn();
    };
    const put = ({ node, stitch, addressed }: Place) =>
      this.#put(node, stitch, { ...message, ...addressed }, waits, goOn);
    const [only] = places;
    if (only !== undefined && places.length === 1) return put(only);
    const ends = await Promise.allSettled(places.map(put));
    const errors = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as Error] : []));
    const first = errors.length === ends.length ? errors.shift() : undefined;
    for (const error of errors) waits.speaker?.onLost(error);
    if (first !== undefined) throw first;
  }

  #put(node: string, stitch: string, message: Message, waits: Waits, goOn: () => void): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.reject(leaving());
    const sending: Sending = {
      // A forwarded message may wait long, and must not hold up what its sender sends meanwhile.
      from: message.hops === 0 ? message.from : `${message.from}+`,
      recipient: `${node}:${stitch}`,
      stitch,
      body: JSON.stringify(message),
      message,
      waits,
      stored: Promise.withResolvers(),
      goOn,
      sinceMs: null,
      isKept: false,
    };
    const destination = this.#destinations.get(node) ?? { queue: new SendQueue<Sending>(), rest: null };
    if (destination.queue.isFull(stitch) && this.#isDeaf(sending)) this.#giveUp([sending]);
    else if (destination.queue.push(sending)) destination.rest?.abort();
    else this.#startWaiting(sending);
    if (!this.#destinations.has(node)) {
      this.#destinations.set(node, destination);
      this.#work(this.#carry(node, destination));
    }
    return sending.stored.promise;
  }

  #work(work: Promise<void>): void {
    const done = work.catch(this.#options.onError).finally(() => this.#working.delete(done));
    this.#working.add(done);
  }

  /** Sends the messages for one node until none waits. */
  async #carry(node: string, destination: Destination): Promise<void> {
    const { queue } = destination;
    const { signal } = this.#stopping;
    let probeAtMs = 0;
    // Messages of the same turn are sent together.
    await new Promise((resolve) => setImmediate(resolve));
    while (!queue.isEmpty && !signal.aborted) {
      const steadyMs = performance.now();
      const probes = steadyMs < probeAtMs ? [] : queue.probes();
      if (probes.length > 0) probeAtMs = steadyMs + RETRY_MS;
      const batch = probes.length > 0 ? probes : queue.next();
      if (batch.length === 0) {
        if (!queue.isEmpty) await this.#rest(destination, steadyMs < probeAtMs ? probeAtMs - steadyMs : RETRY_MS);
        continue;
      }
      const placed = await this.#store(node, batch);
      if (placed === null) {
        queue.putBack(batch);
        await pause(RETRY_MS, signal);
        continue;
      }
      const refused = batch.filter((sending, index) => this.#stays(node, sending, placed[index] ?? "full"));
      queue.finish(batch, refused);
      if (refused.length > 0) for (const sending of queue.aside) this.#startWaiting(sending);
      if (refused.length > 0) this.#giveUpLate(queue, new Set(refused.map(({ stitch }) => stitch)));
    }
    this.#destinations.delete(node);
    for (const sending of queue.takeOut(() => true))
      if (sending.isKept) this.#bury([sending], "its sender's node left before there was room for it");
      else this.#end(sending, leaving());
  }

  async #rest(destination: Destination, ms: number): Promise<void> {
    destination.rest = new AbortController();
    await pause(ms, destination.rest.signal);
    destination.rest = null;
  }

  /** @returns the result of each message; null if the results are unknown. */
  async #store(node: string, batch: readonly Sending[]): Promise<PutResult[] | null> {
    const { routing, onError } = this.#options;
    const failed = (error: unknown) => {
      onError(error);
      return null;
    };
    const placed = await routing.put(node, batch).catch(failed);
    if (placed === null || !placed.includes("away")) return placed;
    const dying = batch.filter(({ waits }, index) => placed[index] === "away" && waits.speaker !== undefined);
    if (dying.length === 0) return placed;
    const buried = await this.#burials(dying, "its node is away, and the inbox there is full")
      .then((burials) => routing.put(node, postedOf(dying, burials)))
      .catch(failed);
    const again = new Map(dying.map((sending, index) => [sending, buried?.[index]]));
    return batch.map((sending, index) => again.get(sending) ?? placed[index] ?? "full");
  }

  /** The dead letters for these messages, one for each recipient: `<node>:<group>` if no member is known on that node. */
  async #burials(sendings: readonly Sending[], reason: string): Promise<Burial[]> {
    const { routing, nowMs } = this.#options;
    const groups = new Set(sendings.flatMap(({ message: { to } }) => ("group" in to ? [to.group] : [])));
    const members = new Map(
      await Promise.all([...groups].map(async (group) => [group, await routing.receiversOf(group)] as const)),
    );
    const why = { code: "inbox_full", reason, tries: 0, atMs: nowMs() } as const;
    return sendings.map(({ recipient, message }) => {
      const { to, from } = message;
      const letter = asLetter(message, why);
      if (!("group" in to)) return { to: [recipient], letter };
      const here = (members.get(to.group) ?? []).filter((id) => id.startsWith(recipient) && id !== from);
      return { to: here.length > 0 ? here : [`${recipient}${to.group}`], letter };
    });
  }

  /** Ends a message whose result is known. @returns true if there was no room for it. */
  #stays(node: string, sending: Sending, placed: PutResult): boolean {
    if (placed === "stored") {
      this.#note(sending);
      this.#end(sending);
    } else if (placed === "gone") this.#end(sending, new RequestError("no_recipient", `there is no node "${node}"`));
    else if (placed === "buried") {
      this.#pace.lost(sending.from);
      this.#end(sending, isFull(sending, `${node} is away; it is a dead letter`));
    } else return true;
    return false;
  }

  /** The message is stored. If nobody can take it, it will be a dead letter. */
  #note({ from, recipient, message: { to, bare } }: Sending): void {
    const tell = (isKnown: boolean) => (isKnown ? this.#pace.arrived(from) : this.#pace.lost(from));
    const isKnown = "group" in to || bare === true || this.#known.isKnown(recipient, this.#options.nowMs());
    if (isKnown instanceof Promise) isKnown.then(tell).catch(this.#options.onError);
    else tell(isKnown);
  }

  /** There is no room for this message, or for an earlier one that it must not overtake. */
  #startWaiting(sending: Sending): void {
    const { speaker } = sending.waits;
    if (sending.sinceMs !== null || this.#isDeaf(sending)) return;
    sending.sinceMs = this.#options.nowMs();
    if (speaker === undefined) return;
    if (!this.#backlog.has(sending)) speaker.onFull();
    sending.isKept = this.#backlog.add(sending);
    if (sending.isKept) sending.goOn();
  }

  #isDeaf(sending: Sending): boolean {
    return this.#options.nowMs() < (this.#deaf.get(deafnessOf(sending)) ?? 0);
  }

  /** @param full the stitches that had no room just now: while Redis is away, nothing is given up. */
  #giveUpLate(queue: SendQueue<Sending>, full: ReadonlySet<string>): void {
    const nowMs = this.#options.nowMs();
    const isLate = (sending: Sending): boolean => {
      const { waits, sinceMs, stitch } = sending;
      // A message that only waits behind others goes when those are gone.
      if (!full.has(stitch)) return false;
      const untilMs =
        waits.untilMs ?? (waits.speaker === undefined ? Number.POSITIVE_INFINITY : (sinceMs ?? nowMs) + ROOM_MS);
      return nowMs >= untilMs || this.#isDeaf(sending);
    };
    if (queue.aside.some(isLate)) this.#giveUp(queue.takeOut(isLate));
  }

  /** From here on, the recipients count as deaf to the senders of these messages. */
  #giveUp(sendings: readonly Sending[]): void {
    const untilMs = this.#options.nowMs() + ROOM_MS;
    if (this.#deaf.size + sendings.length > MOST_DEAF) this.#deaf.clear();
    for (const sending of sendings) this.#deaf.set(deafnessOf(sending), untilMs);
    const said = sendings.filter(({ waits }) => waits.speaker !== undefined);
    for (const { from } of said) this.#pace.lost(from);
    if (said.length > 0) this.#bury(said, `no room for it, and none for others of its sender for ${ROOM_MS} ms`);
    // The senders of the others make dead letters of them.
    for (const sending of sendings) if (sending.waits.speaker === undefined) this.#end(sending, isFull(sending));
  }

  /** Makes dead letters of messages, at this node, and then tells their senders. */
  #bury(sendings: readonly Sending[], reason: string): void {
    const { routing, node, onError } = this.#options;
    const { signal } = this.#stopping;
    const write = async () => {
      const burials = await this.#burials(sendings, reason);
      const letters = burials.flatMap(({ to, letter }) => to.map((id) => ({ to: id, ...letter })));
      await routing.bury(node, letters);
    };
    const work = async () => {
      for (;;) {
        const isWritten = await write().then(
          () => true,
          (error: unknown) => {
            onError(error);
            return false;
          },
        );
        if (isWritten || signal.aborted) {
          for (const sending of sendings)
            this.#end(sending, isWritten ? isFull(sending, "it is a dead letter") : leaving());
          return;
        }
        await pause(RETRY_MS, signal);
      }
    };
    this.#work(work());
  }

  #end(sending: Sending, error?: Error): void {
    if (sending.isKept) this.#backlog.remove(sending);
    else sending.goOn();
    if (error === undefined) sending.stored.resolve();
    else sending.stored.reject(error);
  }
}

/** Replies wait for another time than messages, so their deafness is recorded separately. */
const deafnessOf = ({ from, recipient, waits }: Sending): string =>
  `${pairOf(from, recipient)}${waits.speaker === undefined ? " replies" : ""}`;
const postedOf = (sendings: readonly Sending[], burials: readonly Burial[]): Posted[] =>
  sendings.flatMap(({ stitch, body }, index) => {
    const burial = burials[index];
    return burial === undefined ? [] : [{ stitch, body, burial }];
  });
const leaving = () => new RequestError("shutting_down", "this node is leaving");
const isFull = ({ recipient }: Sending, more = "") =>
  new RequestError(
    "inbox_full",
    `the inbox of ${recipient.replace(/:$/, "")} is full${more === "" ? "" : `: ${more}`}`,
  );
