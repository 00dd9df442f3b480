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
  /** Stitches of the node by their bare ids, or those of it that are in a group when it is taken. */
  readonly to: readonly string[] | { readonly group: string };
  /** The stitch in whose share it counts, or "*" for several. */
  readonly share: string;
  readonly bytes: number;
  /** How often it was sent after its stitch, which had moved or was somewhere else. */
  readonly hops: number;
  readonly storedAtMs: number;
  /** It left the inbox. */
  readonly doneAtMs: number;
};

/** Recipients are full ids. */
export type Arrived = { readonly recipient: string; readonly label: string };
export type Letter = {
  readonly messageId: string;
  /** As of the message; one that never was in an inbox has no other. */
  readonly label: string;
  readonly to: string;
  readonly code: string;
  readonly reason: string;
};
/** A stitch was there for certain, from when it had come until its removal, or its move, was asked for. */
export type Stay = {
  readonly stitch: string;
  readonly group: string;
  readonly fromMs: number;
  readonly untilMs: number;
  /** It was asked to move then, and lived on there or elsewhere. */
  readonly moved: boolean;
};
/** A process wrote it. `life`: the run of its program. */
type Spoken = {
  readonly sender: string;
  readonly number: number;
  readonly life: string;
  readonly to: { readonly stitch: string } | { readonly group: string };
  readonly atMs: number;
};

export type History = {
  readonly stored: readonly Stored[];
  /** Each time that a stitch was handed a message, in that order for each stitch. */
  readonly received: readonly Arrived[];
  readonly letters: readonly Letter[];
  readonly stays: readonly Stay[];
  /** Full ids under which stitches were on their way to another node. There, what is for their groups may reach them too. */
  readonly visits: readonly Pick<Stay, "stitch" | "group">[];
  readonly spoken: readonly Spoken[];
  /** What a sender was told: it is stored for this recipient (null: for whom it is), or not at all (on this node). */
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

/** What a stitch was handed more than once, and how often. */
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
  /** Dealt with, wherever the stitch was: by its bare id. */
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
 * Whom a message must reach: those it names, and of a group who was there for as long as it was in the inbox, or until it
 * moved on: then it follows.
 */
function recipientsOf({ node, to, sender, storedAtMs, doneAtMs }: Stored, stays: readonly Stay[]): string[] {
  if (!("group" in to)) return to.map((id) => fullId(node, id));
  return stays
    .filter(({ stitch, group }) => splitFullId(stitch).node === node && groupContains(to.group, group))
    .filter(({ stitch, fromMs }) => stitch !== sender && fromMs <= storedAtMs)
    .filter(({ untilMs, moved }) => (moved ? storedAtMs : doneAtMs) <= untilMs)
    .map(({ stitch }) => stitch);
}

/** Each accepted message is received at least once by each whom it must reach, wherever that is by then, or it is a dead letter. */
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
 * Of one stitch's messages each stitch is handed the first copies in the order of their numbers. One that is a dead letter
 * too may come late: it was given up in between. So may one that was sent after its stitch: order holds while that stays.
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

/** Nobody is handed what was not stored for it. */
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

/** What a sender was told is so. */
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
 * A node takes what one life of a process writes in order, and goes on when it is stored, or waits for room, or is refused
 * because there is nobody. So nothing before the last that is stored is missing, unless its recipient may not have been there
 * at that time, or it found no room and is a dead letter.
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
        // It found no room.
        .filter(({ stitch }) => !dead.has(keyOf({ recipient: bareId(stitch), label })))
        // One that was there before may be looked for on its former node.
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

/** Never more of what is for one stitch, or for several, waits in an inbox than its share. */
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
    // What goes at the same moment goes first: it made the room.
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
