// Who writes to whom in test/fault/messages.test.ts, and what each stitch notes in its journal. It is the same for a process
// (stitches/correspondent.ts) and a module (modules/correspondent.ts). Every message begins with `<sender> <number>`.
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { Chance } from "./chance.ts";

export const NODES = ["n1", "n2", "n3"] as const;
type Talker = { readonly id: string; readonly group: string; readonly kind: "process" | "module" };

const GROUPS = ["talk.red.1", "talk.blue.1", "talk.blue.2"] as const;
/** The stitches that write to each other all the time. */
export const TALKERS = ["amy", "ben", "cat", "dan", "eve", "fay", "gus", "hal", "ida", "jon", "kim", "lou"].map(
  (id, index): Talker => ({
    id,
    group: GROUPS[Math.floor(index / 4)] ?? GROUPS[0],
    kind: index % 4 === 3 ? "module" : "process",
  }),
);
/** The stitch that answers one heartbeat and reads nothing more. */
export const DEAF = "deaf";
/** The stitch that writes only to the deaf one, more than there is room for. */
export const SHOUTER = "shouter";

export type Address = { readonly stitch: string } | { readonly group: string };

/** What a stitch notes in its journal. */
export type Note =
  /** It writes this message. That does not mean that the message is accepted. `life`: the run of the program. */
  | {
      readonly kind: "said";
      readonly number: number;
      readonly to: Address;
      readonly life: string;
      readonly atMs: number;
    }
  /** It has learned that this message is accepted. `by`: the stitch that answered it; null if there is no answer. */
  | { readonly kind: "accepted"; readonly number: number; readonly by: string | null }
  /** It gets this message. Noted before the acknowledgement. A message that comes twice is noted twice. */
  | { readonly kind: "received"; readonly label: string; readonly atMs: number };

type Means = {
  /** The stitch's full id. */
  readonly me: string;
  readonly dataDir: string;
  readonly seed: number;
  /** Resolves with true if the message is known to be accepted. */
  send(to: Address, data: string): Promise<boolean>;
  /** Resolves with the stitch that answered; rejects if none does. */
  ask(stitch: string, data: string): Promise<string>;
  /** Ends the stitch at once, as a crash does. */
  crash(): void;
};

/** All talkers, a group, or one talker: by its bare id, or by a full id that perhaps no stitch has. */
function anyAddress(chance: Chance): Address {
  const drawn = chance.next();
  if (drawn < 0.04) return { group: "talk" };
  if (drawn < 0.14) return { group: chance.oneOf(["talk.red", "talk.blue", "talk.blue.2"]) };
  const id = TALKERS[chance.between(0, TALKERS.length)]?.id ?? DEAF;
  return { stitch: drawn < 0.25 ? `${chance.oneOf(NODES)}:${id}` : id };
}

/** An address to which a client writes. A client has no inbox, and writes to the deaf stitch, too. */
export const clientsAddress = (chance: Chance): Address =>
  chance.next() < 0.15 ? { stitch: DEAF } : anyAddress(chance);

export const labelOf = (sender: string, number: number): string => `${sender} ${number}`;

/** Writes numbered messages until it is told to stop, and takes the messages that come. */
export class Correspondence {
  readonly #means: Means;
  readonly #life: string;
  readonly #chance: Chance;
  readonly #asked = new Set<Promise<void>>();
  readonly #journal: string;
  #number: number;
  #stopping = false;
  #talking: Promise<void> = Promise.resolve();

  constructor(means: Means) {
    this.#means = means;
    // Beside the data folders: a stitch that is created again under its id has an empty folder, but continues its numbers.
    this.#journal = join(means.dataDir, "../..", `journal-${basename(means.dataDir)}`);
    this.#number = this.#lastNumber();
    this.#life = `${process.pid}.${Date.now()}`;
    this.#chance = new Chance(means.seed, `${means.me} after ${this.#number}`);
  }

  start(): void {
    this.#talking = this.#talk();
  }

  /** Writes no more messages. Resolves when the last message is out, and all its questions have ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#talking;
    await Promise.all(this.#asked);
  }

  /** @returns the answer to a question. @throws sometimes, so that the message is delivered again. */
  async take(channel: string, data: string): Promise<string | undefined> {
    const mood = this.#stopping ? 1 : this.#chance.next();
    if (mood < 0.005) throw new Error("fails before it has noted it");
    const label = data.split(" ", 2).join(" ");
    this.#note({ kind: "received", label, atMs: Date.now() });
    if (mood < 0.01) throw new Error("fails after it has noted it");
    if (mood < 0.011) this.#means.crash();
    if (channel === "stop") await this.stop();
    else if (mood < 0.05) await wait(this.#chance.between(1, 30));
    return channel === "ask" ? `re ${label}` : undefined;
  }

  /** The numbers continue over all runs of the stitch. */
  #lastNumber(): number {
    const text = existsSync(this.#journal) ? readFileSync(this.#journal, "utf8") : "";
    return text.split('"kind":"said"').length - 1;
  }

  async #talk(): Promise<void> {
    const isShouter = this.#means.me.endsWith(`:${SHOUTER}`);
    while (!this.#stopping) {
      const to = isShouter ? { stitch: DEAF } : anyAddress(this.#chance);
      this.#number += 1;
      const number = this.#number;
      this.#note({ kind: "said", number, to, life: this.#life, atMs: Date.now() });
      const label = labelOf(this.#means.me, number);
      if ("stitch" in to && !isShouter && this.#chance.next() < 0.1) this.#ask(number, to.stitch, label);
      else {
        const isAccepted = await this.#means.send(to, isShouter ? `${label} `.padEnd(20_000, ".") : label);
        if (isAccepted) this.#note({ kind: "accepted", number, by: null });
      }
      await wait(this.#chance.between(1, 200));
    }
  }

  /** Does not wait for the answer: the next messages must not overtake the question. */
  #ask(number: number, stitch: string, label: string): void {
    const asked = this.#means
      .ask(stitch, label)
      .then(
        (by) => this.#note({ kind: "accepted", number, by }),
        () => undefined,
      )
      .finally(() => this.#asked.delete(asked));
    this.#asked.add(asked);
  }

  /** One write, so that the end of the process leaves a whole line or none. */
  #note(note: Note): void {
    appendFileSync(this.#journal, `${JSON.stringify(note)}\n`);
  }
}
