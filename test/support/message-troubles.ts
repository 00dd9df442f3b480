// The parts of test/fault/messages.test.ts that make trouble: the node workers, where the stitches live, and a client. Each
// draws what it does from the seed.
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { RequestError } from "../../src/domain/errors.ts";
import { fullId, splitFullId } from "../../src/domain/names/ids.ts";
import type { DeliveryResource } from "../../src/contract/message.ts";
import { Chance } from "./chance.ts";
import { type Part, type TestCluster, until } from "./cluster.ts";
import { type Address, clientsAddress, DEAF, labelOf, NODES, SHOUTER, TALKERS } from "./correspondence.ts";
import { MailClient } from "./mail-client.ts";
import type { Arrived, Stay } from "./message-checker.ts";

export const SETTLE_MS = 60_000;

/** The lease is shorter than a long pause. */
export const SETTINGS = { STITCH_HEARTBEAT_MS: "500", STITCH_LEASE_MS: "2500", STITCH_DEAD_AFTER_MS: "1000" };
const LONG_PAUSE_MS = 3500;
const MODULES = { STITCH_MODULES: `correspondent=${join(import.meta.dirname, "modules/correspondent.ts")}` };
const SHARED = {
  stopGraceMs: 1000,
  minHealthyMs: 200,
  restart: { backoffMs: 50, maxBackoffMs: 200, maxRestarts: 10_000 },
};

/** The stitches, by their bare ids. */
export const RESIDENTS: ReadonlyMap<string, { group: string; program: string | null }> = new Map([
  ...TALKERS.map(({ id, group, kind }): [string, { group: string; program: string | null }] => [
    id,
    { group, program: kind === "module" ? null : "correspondent.ts" },
  ]),
  [SHOUTER, { group: "talk.loud.1", program: "correspondent.ts" }],
  [DEAF, { group: "talk.deaf.1", program: "deaf.mjs" }],
]);

/** @param program of a process; null: the module. */
function specOf(program: string | null, seed: number): object {
  if (program === null) return { ...SHARED, adaptor: "module", module: "correspondent" };
  const command = [process.execPath, join(import.meta.dirname, "stitches", program)];
  return { ...SHARED, adaptor: "process", protocol: "process-v1", env: { TEST_SEED: String(seed) }, command };
}

/** What happens, in words, for the person who has to understand a failure. */
export class Diary {
  readonly lines: string[] = [];
  readonly #startedAtMs = Date.now();

  note(text: string): void {
    this.lines.push(`${((Date.now() - this.#startedAtMs) / 1000).toFixed(2)} ${text}`);
  }
}

/** The node workers: one at a time is killed, leaves or is paused. */
export class Workers {
  readonly #cluster: TestCluster;
  readonly #diary: Diary;
  readonly #settings: Record<string, string>;
  readonly #chance: Chance;
  readonly #running = new Map<string, Part>();

  constructor(cluster: TestCluster, diary: Diary, seed: number) {
    this.#cluster = cluster;
    this.#diary = diary;
    this.#settings = { ...MODULES, TEST_SEED: String(seed) };
    this.#chance = new Chance(seed, "workers");
  }

  async start(node: string): Promise<void> {
    this.#running.set(node, await this.#cluster.node(node, this.#settings));
  }

  async trouble(untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      const node = this.#chance.oneOf(NODES);
      const fault = this.#chance.oneOf(["SIGKILL", "SIGKILL", "SIGTERM", "SIGSTOP"] as const);
      const awayMs = this.#chance.next() < 0.3 ? LONG_PAUSE_MS : this.#chance.between(0, 1000);
      this.#diary.note(`${node} ${fault}, ${awayMs} ms`);
      await this.#away(node, fault, awayMs);
      this.#diary.note(`${node} is back`);
      await wait(this.#chance.between(0, 2000));
    }
  }

  async #away(node: string, fault: "SIGKILL" | "SIGTERM" | "SIGSTOP", awayMs: number): Promise<void> {
    const worker = this.#running.get(node);
    assert.ok(worker);
    if (fault === "SIGSTOP") {
      worker.child.kill(fault);
      await wait(awayMs);
      worker.child.kill("SIGCONT");
      return;
    }
    await worker.kill(fault);
    await wait(awayMs);
    await this.start(node);
  }
}

/** Where each stitch lives, and since when. */
export class Residents {
  readonly #cluster: TestCluster;
  readonly #diary: Diary;
  readonly #seed: number;
  readonly #chance: Chance;
  readonly #homes = new Map<string, { node: string; fromMs: number }>();
  readonly #former: Stay[] = [];
  readonly visits: Pick<Stay, "stitch" | "group">[] = [];
  moves = 0;

  constructor(cluster: TestCluster, diary: Diary, seed: number) {
    this.#cluster = cluster;
    this.#diary = diary;
    this.#seed = seed;
    this.#chance = new Chance(seed, "residents");
  }

  get stays(): Stay[] {
    const untilMs = Number.POSITIVE_INFINITY;
    return [...this.#former, ...[...this.#homes].map(([id, home]) => stayOf(id, home, untilMs))];
  }

  /** Where a stitch lives, as a full id. */
  at(id: string): string {
    return fullId(this.#homes.get(id)?.node ?? assert.fail(`${id} lives nowhere`), id);
  }

  async settle(): Promise<void> {
    const homes = [...RESIDENTS.keys()].map((id, index) => ({ id, node: NODES[index % NODES.length] ?? NODES[0] }));
    await Promise.all(homes.map(({ id, node }) => this.#create(id, node)));
  }

  async trouble(untilMs: number): Promise<void> {
    await Promise.all([this.#comeAndGo(untilMs), this.#wander(untilMs)]);
  }

  async #comeAndGo(untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      const id = this.#anyTalker();
      await this.remove(id);
      await wait(this.#chance.between(0, 600));
      await this.#create(id, this.#chance.oneOf(NODES));
      await wait(this.#chance.between(0, 1000));
    }
  }

  async #wander(untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      await this.#move(this.#anyTalker());
      await wait(this.#chance.between(0, 500));
    }
  }

  /** A talker that is not being created, removed or moved. */
  #anyTalker(): string {
    const settled = TALKERS.filter(({ id }) => this.#homes.has(id));
    return settled[this.#chance.between(0, settled.length)]?.id ?? assert.fail("all are on their way");
  }

  /** However the move ends, the stitch then lives somewhere. */
  async #move(id: string): Promise<void> {
    const target = this.#leaves(id, true);
    this.#diary.note(`${target} is to move`);
    const move = { command: "stitch.move", target, timeoutMs: 10_000, waitForNode: true } as const;
    const how = await this.#cluster.run(move).then(
      ({ status, error, stitches }) => {
        const { group } = RESIDENTS.get(id) ?? assert.fail();
        this.visits.push(...stitches.filter((each) => each !== target).map((stitch) => ({ stitch, group })));
        return `${status} ${error?.code ?? ""}`;
      },
      (error: unknown) => {
        if (error instanceof RequestError && error.code === "placement_failed") return error.code;
        throw error;
      },
    );
    const find = () => this.#cluster.master.state.stitch(id).then(({ fullId: its }) => its);
    const at = await until(`${id} has settled`, find, SETTLE_MS);
    this.#homes.set(id, { node: splitFullId(at).node, fromMs: Date.now() });
    if (at !== target) this.moves += 1;
    this.#diary.note(`${target} is ${at}: ${how}`);
  }

  /** @param moved the stitch lives on. @returns its full id. */
  #leaves(id: string, moved: boolean): string {
    const home = this.#homes.get(id);
    assert.ok(home);
    this.#homes.delete(id);
    this.#former.push({ ...stayOf(id, home, Date.now()), moved });
    return fullId(home.node, id);
  }

  async remove(id: string): Promise<void> {
    const target = this.#leaves(id, false);
    this.#diary.note(`${target} is to go`);
    await this.#command(`${target} is gone`, { command: "stitch.remove", target }, "not_found");
  }

  async #create(id: string, node: string): Promise<void> {
    const { group: target, program } = RESIDENTS.get(id) ?? assert.fail();
    const spec = specOf(program, this.#seed);
    await this.#command(
      `${node}:${id} is there`,
      { command: "stitch.create", target, node, id, spec },
      "stitch_exists",
    );
    this.#homes.set(id, { node, fromMs: Date.now() });
    this.#diary.note(`${node}:${id} is there`);
  }

  /** Repeats a command until it is carried out, because it may fail when its node dies. */
  async #command(
    what: string,
    body: { command: "stitch.create" | "stitch.remove" } & Record<string, unknown>,
    doneAlready: "not_found" | "stitch_exists",
  ): Promise<void> {
    const attempt = async (): Promise<boolean> => {
      try {
        const job = await this.#cluster.run({ ...body, waitForNode: true });
        if (job.status !== "succeeded") this.#diary.note(`${what}: ${job.status} ${job.error?.code ?? ""}`);
        return job.status === "succeeded";
      } catch (error) {
        if (error instanceof RequestError && error.code === doneAlready) return true;
        throw error;
      }
    };
    await until(what, attempt, SETTLE_MS);
  }
}

const stayOf = (id: string, { node, fromMs }: { node: string; fromMs: number }, untilMs: number): Stay => ({
  stitch: fullId(node, id),
  group: RESIDENTS.get(id)?.group ?? "",
  fromMs,
  untilMs,
  moved: false,
});

/** A client of the API: it writes messages, and keeps their results. */
export class Client {
  readonly mail: MailClient;
  readonly accepted: Arrived[] = [];
  readonly rejected: { label: string; node: string | null }[] = [];
  /** How often the API said that the deaf stitch's share is full, and when it first did. */
  full = 0;
  fullAtMs = Number.POSITIVE_INFINITY;
  readonly #chance: Chance;
  #number = 0;

  constructor(url: string, seed: number) {
    this.mail = new MailClient(url);
    this.#chance = new Chance(seed, "client");
  }

  /** Resolves when the deaf stitch's share is full. */
  async fillUp(): Promise<void> {
    const isFull = async () => {
      await this.send({ stitch: DEAF });
      return this.full > 0;
    };
    await until("the share of the deaf stitch is full", isFull, SETTLE_MS);
  }

  async trouble(untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      await this.send(clientsAddress(this.#chance));
      await wait(this.#chance.between(1, 60));
    }
  }

  /** Tells a stitch to write no more messages. @returns whether it has written its last one. */
  async stop(stitch: string): Promise<boolean> {
    const deliveries = await this.send({ stitch }, { channel: "stop", expect: "ack", timeoutMs: 20_000 });
    return deliveries[0]?.status === "acked";
  }

  async send(to: Address, more: Record<string, unknown> = {}): Promise<readonly DeliveryResource[]> {
    this.#number += 1;
    const label = labelOf("client", this.#number);
    const isForDeaf = "stitch" in to && to.stitch === DEAF;
    const message = { data: isForDeaf ? `${label} `.padEnd(60_000, ".") : label, ...more };
    const { status, body } = await this.mail.send(to, message, label);
    // No request here may get another 5xx.
    assert.ok(status < 500, JSON.stringify(body));
    if (isForDeaf && body.code === "inbox_full") {
      this.full += 1;
      this.fullAtMs = Math.min(this.fullAtMs, Date.now());
    }
    if (status >= 400) {
      this.rejected.push({ label, node: null });
      return [];
    }
    for (const row of body.deliveries)
      if (row.status === "rejected") this.rejected.push({ label, node: splitFullId(row.stitch).node });
      // A failed message is a dead letter, at once or later: nothing more is expected of it.
      else if (row.status !== "failed") this.accepted.push({ label, recipient: row.stitch });
    return body.deliveries;
  }
}
