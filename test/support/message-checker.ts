import { groupContains } from "../../src/domain/names/group.ts";
import { fullId, splitFullId } from "../../src/domain/names/ids.ts";
import { SEVERAL_BYTES, SEVERAL_MESSAGES, STITCH_BYTES, STITCH_MESSAGES } from "../../src/redis/inbox/put-messages.ts";

/** A message in a node's inbox: from here on it is accepted. `label`: its sender and number, the same in every copy. */
export type Stored = {
  readonly node: string;
  readonly messageId: string;
  readonly label: string;
  /** The full id of the stitch that sent it, or null for a client. */
  readonly sender: string | null;
  readonly number: number;
  /** Stitches of the node by their bare ids, or those that are in the group when the node takes the message. */
  readonly to: readonly string[] | { readonly group: string };
  /** The stitch in whose share it counts, or "*" for several. */
  readonly share: string;
  readonly bytes: number;
  /** How often it was sent on, because its stitch had moved or was on another node. */
  readonly hops: number;
  readonly storedAtMs: number;
  /** When it left the inbox. */
  readonly doneAtMs: number;
};

/** Recipients are full ids. */
export type Arrived = { readonly recipient: string; readonly label: string };
export type Letter = {
  readonly messageId: string;
  /** The label of the message. Nothing else identifies a message that was never in an inbox. */
  readonly label: string;
  readonly to: string;
  readonly code: string;
  readonly reason: string;
};
/** A stitch was there for certain, from its arrival until somebody asked for its removal or its move. */
export type Stay = {
  readonly stitch: string;
  readonly group: string;
  readonly fromMs: number;
  readonly untilMs: number;
  /** The stay ended with a move: the stitch lived on, there or elsewhere. */
  readonly moved: boolean;
};
/** A message that a process wrote. `life`: the run of its program. */
type Spoken = {
  readonly sender: string;
  readonly number: number;
  readonly life: string;
  readonly to: { readonly stitch: string } | { readonly group: string };
  readonly atMs: number;
};

export type History = {
  readonly stored: readonly Stored[];
  /** Each time that a stitch got a message, in order for each stitch. */
  readonly received: readonly Arrived[];
  readonly letters: readonly Letter[];
  readonly stays: readonly Stay[];
  /** The full ids of stitches on nodes to which they were moving. Messages to their groups may reach them there, too. */
  readonly visits: readonly Pick<Stay, "stitch" | "group">[];
  readonly spoken: readonly Spoken[];
  /** What a sender was told: stored for this recipient (null: for any), or not stored on this node (null: on none). */
  readonly accepted: readonly { readonly label: string; readonly recipient: string | null }[];
  readonly rejected: readonly { readonly label: string; readonly node: string | null }[];
};

export type Finding =
  | "lost"
  | "no reason"
  | "reordered"
  | "astray"
  | "accepted, never stored"
  | "rejected, yet stored"
  | "skipped"
  | "over its share";

/** What breaks the promise, a line for each: `<finding>: <which message, which stitch>`. */
export function problemsOf(history: History): string[] {
  const found = new Ledger(history);
  return [
    ...lost(history, found),
    ...unexplained(history),
    ...reordered(history, found),
    ...astray(history),
    ...falselyTold(history),
    ...skipped(history),
    ...overShare(history),
  ];
}

/** The messages that a stitch got more than once, and how often. */
export function duplicatesOf({ received }: Pick<History, "received">): (Arrived & { times: number })[] {
  return [...Map.groupBy(received, keyOf)].flatMap(([, [first, ...again]]) =>
    first === undefined || again.length === 0 ? [] : [{ ...first, times: again.length + 1 }],
  );
}

const keyOf = ({ recipient, label }: Arrived): string => `${label} > ${recipient}`;
const bareId = (id: string): string => splitFullId(id).stitch;
const line = (finding: Finding, text: string): string => `${finding}: ${text}`;

/** What became of each message for each recipient. */
class Ledger {
  /** Received or dead, wherever the stitch was: by its bare id. */
  readonly #settled = new Set<string>();
  readonly #dead = new Set<string>();

  constructor({ received, letters }: History) {
    for (const { recipient, label } of received) this.#settled.add(keyOf({ recipient: bareId(recipient), label }));
    for (const { label, to } of letters) {
      this.#dead.add(keyOf({ recipient: to, label }));
      this.#settled.add(keyOf({ recipient: bareId(to), label }));
    }
  }

  /** Received, or a dead letter. */
  isSettled({ recipient, label }: Arrived): boolean {
    return this.#settled.has(keyOf({ recipient: bareId(recipient), label }));
  }
  isDead(which: Arrived): boolean {
    return this.#dead.has(keyOf(which));
  }
}

/**
 * The stitches that a message must reach: those that it names; of a group, those that were there as long as the message was in
 * the inbox, or until they moved: then the message follows them.
 */
function recipientsOf({ node, to, sender, storedAtMs, doneAtMs }: Stored, stays: readonly Stay[]): string[] {
  if (!("group" in to)) return to.map((id) => fullId(node, id));
  return stays
    .filter(({ stitch, group }) => splitFullId(stitch).node === node && groupContains(to.group, group))
    .filter(({ stitch, fromMs }) => stitch !== sender && fromMs <= storedAtMs)
    .filter(({ untilMs, moved }) => (moved ? storedAtMs : doneAtMs) <= untilMs)
    .map(({ stitch }) => stitch);
}

/** Each stitch that an accepted message must reach gets it at least once, wherever the stitch is, or it is a dead letter. */
function lost({ stored, stays }: History, ledger: Ledger): string[] {
  return stored.flatMap((message) =>
    recipientsOf(message, stays)
      .map((recipient) => ({ recipient, label: message.label }))
      .filter((which) => !ledger.isSettled(which))
      .map((which) => line("lost", keyOf(which))),
  );
}

function unexplained({ letters }: History): string[] {
  return letters
    .filter(({ code, reason }) => code === "" || reason === "")
    .map(({ messageId, to }) => line("no reason", `${messageId} > ${to}`));
}

/**
 * Each stitch gets the first copies of one sender's messages in the order of their numbers. A message that is also a dead
 * letter may come late: it was given up in between. So may a message that was sent on: the order holds while a stitch stays.
 */
function reordered({ stored, received }: History, ledger: Ledger): string[] {
  const byLabel = new Map(stored.map((message) => [message.label, message]));
  const followed = new Set(stored.filter(({ hops }) => hops > 0).map(({ label }) => label));
  const problems: string[] = [];
  const seen = new Set<string>();
  const last = new Map<string, number>();
  for (const arrived of received) {
    const { sender = null, number = 0 } = byLabel.get(arrived.label) ?? {};
    if (sender === null || followed.has(arrived.label) || seen.has(keyOf(arrived))) continue;
    seen.add(keyOf(arrived));
    const row = `${sender} > ${arrived.recipient}`;
    const before = last.get(row) ?? 0;
    if (number > before) last.set(row, number);
    else if (!ledger.isDead(arrived)) problems.push(line("reordered", `${keyOf(arrived)} after ${before}`));
  }
  return problems;
}

/** No stitch gets a message that was not stored for it. */
function astray({ stored, received, stays, visits }: History): string[] {
  const byLabel = Map.groupBy(stored, ({ label }) => label);
  const groups = Map.groupBy([...stays, ...visits], ({ stitch }) => stitch);
  const isFor = ({ recipient }: Arrived, { node, to, sender }: Stored): boolean => {
    const { node: its, stitch } = splitFullId(recipient);
    if (its !== node) return false;
    if (!("group" in to)) return to.includes(stitch);
    return recipient !== sender && (groups.get(recipient) ?? []).some(({ group }) => groupContains(to.group, group));
  };
  return received
    .filter((arrived) => !(byLabel.get(arrived.label) ?? []).some((message) => isFor(arrived, message)))
    .map((arrived) => line("astray", keyOf(arrived)));
}

/** What a sender was told is true. */
function falselyTold({ stored, accepted, rejected }: History): string[] {
  const byLabel = Map.groupBy(stored, ({ label }) => label);
  const isStoredFor = (label: string, recipient: string | null): boolean => {
    const copies = byLabel.get(label) ?? [];
    if (recipient === null) return copies.length > 0;
    const { node, stitch } = splitFullId(recipient);
    return copies.some((copy) => copy.node === node && ("group" in copy.to || copy.to.includes(stitch)));
  };
  return [
    ...accepted
      .filter(({ label, recipient }) => !isStoredFor(label, recipient))
      .map(({ label, recipient }) => line("accepted, never stored", `${label} > ${recipient ?? "anybody"}`)),
    ...rejected
      .filter(({ label, node }) => (byLabel.get(label) ?? []).some((message) => node === null || message.node === node))
      .map(({ label, node }) => line("rejected, yet stored", `${label} > ${node ?? "anybody"}`)),
  ];
}

/**
 * A node takes the messages of one run of a process in order. It goes on when a message is stored, waits for room, or is
 * refused because it has no recipient. So no message before the last stored one is missing, unless its recipient may not have
 * been there at that time, or the message found no room and is a dead letter.
 */
function skipped({ stored, spoken, stays, letters }: History): string[] {
  const dead = new Set(letters.map(({ label, to }) => keyOf({ recipient: bareId(to), label })));
  const byLabel = Map.groupBy(stored, ({ label }) => label);
  const problems: string[] = [];
  for (const said of Map.groupBy(spoken, ({ sender, life }) => `${sender} in ${life}`).values()) {
    let nextAtMs = Number.NEGATIVE_INFINITY;
    for (const { sender, number, to, atMs } of said.toSorted((a, b) => b.number - a.number)) {
      const label = `${sender} ${number}`;
      const copies = byLabel.get(label) ?? [];
      const untilMs = nextAtMs;
      const missed = stays
        .filter((stay) => stay.fromMs <= atMs && atMs <= untilMs && untilMs <= stay.untilMs && isTo(to, stay))
        .filter(({ stitch }) => stitch !== sender || "stitch" in to)
        // The message found no room.
        .filter(({ stitch }) => !dead.has(keyOf({ recipient: bareId(stitch), label })))
        // A stitch that was on another node before may still be looked for there.
        .filter(({ stitch }) => !copies.some(({ node }) => "stitch" in to || node === splitFullId(stitch).node));
      problems.push(...missed.map(({ stitch }) => line("skipped", `${label} > ${stitch}`)));
      const storedAtMs = Math.min(...copies.map((copy) => copy.storedAtMs));
      if (copies.length > 0) nextAtMs = nextAtMs < 0 ? storedAtMs : Math.min(nextAtMs, storedAtMs);
    }
  }
  return problems;
}

const isTo = (to: Spoken["to"], { stitch, group }: Stay): boolean =>
  "group" in to ? groupContains(to.group, group) : stitch === to.stitch || splitFullId(stitch).stitch === to.stitch;

/** The messages in an inbox for one stitch, or for several, are never more than their share. */
function overShare({ stored }: History): string[] {
  const problems: string[] = [];
  for (const [row, messages] of Map.groupBy(stored, ({ node, share }) => `${node}:${share}`)) {
    const [most, mostBytes] = row.endsWith(":*") ? [SEVERAL_MESSAGES, SEVERAL_BYTES] : [STITCH_MESSAGES, STITCH_BYTES];
    const steps = messages.flatMap(({ storedAtMs, doneAtMs, bytes }) => [
      { atMs: storedAtMs, count: 1, bytes },
      { atMs: doneAtMs, count: -1, bytes: -bytes },
    ]);
    let count = 0;
    let bytes = 0;
    // What leaves at the same moment comes first, because it made the room.
    for (const step of steps.sort((a, b) => a.atMs - b.atMs || a.count - b.count)) {
      count += step.count;
      bytes += step.bytes;
      if (count > most || bytes > mostBytes) {
        problems.push(line("over its share", `${row}: ${count} messages, ${bytes} bytes`));
        break;
      }
    }
  }
  return problems;
}
