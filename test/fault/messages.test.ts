// P11 over a long randomised run. Stitches write to one another, to groups and to a deaf one; clients write over HTTP.
// Meanwhile node workers are killed, told to leave and started again, or paused; stitches move, or are removed and created,
// here or on another node. Then everything comes to rest, and a checker compares what was accepted with what arrived.
//
// What counts as accepted. A client knows it from the rows of its 202. A module knows it when its `send` has resolved. A
// process does not know it: a written line says nothing, and a line that was in the pipe at a kill -9 was never accepted. But
// its node takes its lines one by one. It takes the next line when the one before is stored in the inboxes it goes to, or waits
// for room (here for the deaf one alone; without room it becomes a dead letter), or is refused because nobody is there. So an
// answer to a question of the process tells it that all it wrote before was handled. The test sees for itself: it watches what
// is put into the inboxes (test/support/inbox-watch.ts), and that is what was accepted. It also checks that no sender was told
// anything else.
//
// What is checked (test/support/message-checker.ts has each rule exactly):
// - every accepted message arrived at each of its recipients at least once, or is a dead letter with a reason; also if the
//   recipient was removed or moved meanwhile;
// - each stitch got the first copies of one sender's messages in the order of their numbers, except a message that is a dead
//   letter too, or that was sent on to a stitch on another node;
// - nobody got a message for another; no rejected message was stored; no message that a process wrote was skipped;
// - the messages that wait for one stitch never took more than its share, and beside a full share others got theirs.
// Duplicates are reported, and are no failure. Replies are checked only by the one who asked: they may overtake what was sent
// before.
//
// The parts that make trouble are in test/support/message-troubles.ts, the senders in test/support/correspondence.ts.
// TEST_SEED repeats what is drawn (who writes to whom, which faults in which order), not the timing.
// TEST_MESSAGES_MS: how long the faults go on, in ms; 30000 by default.
import assert from "node:assert/strict";
import { randomInt, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { fullId, splitFullId } from "../../src/domain/names/ids.ts";
import { type TestCluster, until, withCluster } from "../support/cluster.ts";
import { DEAF, labelOf, NODES, type Note, SHOUTER, TALKERS } from "../support/correspondence.ts";
import { type Entry, InboxWatch } from "../support/inbox-watch.ts";
import type { MailClient } from "../support/mail-client.ts";
import { duplicatesOf, type History, type Letter, problemsOf, type Stored } from "../support/message-checker.ts";
import { Client, Diary, RESIDENTS, Residents, SETTINGS, SETTLE_MS, Workers } from "../support/message-troubles.ts";
import { lastingJournalOf } from "../support/stitch-folder.ts";

const SEED = Number(process.env["TEST_SEED"] ?? randomInt(2 ** 31));
const RUN_MS = Number(process.env["TEST_MESSAGES_MS"] ?? 30_000);
/** The time for what comes before and after the faults, on a busy machine. */
const REST_MS = 240_000;

/** The message of an inbox entry; none for a question or a reply. */
const storedOf = ({ node, message, share, bytes, storedAtMs, doneAtMs }: Entry): Stored[] => {
  if (message === null || message.re !== null) return [];
  const [sender = "", number = ""] = message.data.split(" ", 2);
  const to = "stitch" in message.to ? [message.to.stitch] : "stitches" in message.to ? message.to.stitches : message.to;
  const label = labelOf(sender, Number(number));
  const isStitch = sender !== "client";
  if (isStitch) assert.equal(message.from, sender);
  const { id: messageId } = message;
  return [
    {
      node,
      messageId,
      label,
      sender: isStitch ? sender : null,
      number: Number(number),
      to,
      share,
      bytes,
      hops: message.hops,
      storedAtMs,
      doneAtMs,
    },
  ];
};

/** What the stitches have noted, on every node where each of them has run. */
function readJournals(cluster: TestCluster) {
  const places = NODES.flatMap((node) => [...RESIDENTS.keys()].map((id) => ({ node, id, me: fullId(node, id) })));
  const notes = places.flatMap(({ node, id, me }) =>
    (lastingJournalOf(cluster, node, id) as Note[]).map((note) => ({ me, id, note })),
  );
  const isProcess = (id: string) => RESIDENTS.get(id)?.program !== null;
  return {
    received: notes.flatMap(({ me, note }) => (note.kind === "received" ? [{ ...note, recipient: me }] : [])),
    spoken: notes.flatMap(({ me, id, note }) =>
      note.kind === "said" && isProcess(id) ? [{ ...note, sender: me }] : [],
    ),
    accepted: notes.flatMap(({ me, note }) =>
      note.kind === "accepted" ? [{ label: labelOf(me, note.number), recipient: note.by }] : [],
    ),
  };
}

async function readLetters(mail: MailClient): Promise<Letter[]> {
  const letters: Letter[] = [];
  for (let query: string | null = "?limit=500"; query !== null; ) {
    const { items, nextCursor } = await mail.deadLetters(query);
    letters.push(
      ...items.map(({ messageId, stitch, code, reason, data }) => ({
        messageId,
        label: data.split(" ", 2).join(" "),
        to: stitch,
        code,
        reason,
      })),
    );
    query = nextCursor === null ? null : `?limit=500&cursor=${encodeURIComponent(nextCursor)}`;
  }
  return letters;
}

/** Reports the numbers of the run, and what came more than once. */
function tell(t: TestContext, history: History): void {
  const { stored, received, letters, rejected } = history;
  const duplicates = duplicatesOf(history);
  t.diagnostic(
    `TEST_SEED=${SEED}: ${stored.length} messages accepted, ${received.length} deliveries, ${letters.length} dead ` +
      `letters, ${rejected.length} rejected; ${duplicates.length} deliveries were made more than once`,
  );
  for (const [code, of = []] of Object.entries(Object.groupBy(letters, (each) => each.code)))
    t.diagnostic(`dead letters ${code}: ${of.length}`);
  for (const [recipient, of] of Map.groupBy(duplicates, (each) => each.recipient))
    t.diagnostic(`more than once to ${recipient}: ${of.map(({ label, times }) => `${label} ×${times}`).join(", ")}`);
}

/** Notes all that is known about the message that a problem names. */
function noteTraces(diary: Diary, problem: string, { stored, received, letters }: History): void {
  const [label = ""] = /[a-z0-9:]+ \d+(?= >)/.exec(problem) ?? [];
  diary.note(problem);
  const copies = stored.filter((each) => each.label === label);
  for (const copy of copies) diary.note(`  stored ${JSON.stringify(copy)}`);
  for (const { messageId } of copies.slice(0, 1))
    for (const letter of letters.filter((each) => each.messageId === messageId))
      diary.note(`  letter ${JSON.stringify(letter)}`);
  for (const each of received.filter((one) => one.label === label)) diary.note(`  received ${JSON.stringify(each)}`);
}

/** Runs `work` with a Redis of the test's own: the commands of other tests would drown what is watched. */
async function withWatchedRedis(work: (url: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-redis-"));
  const redis = await startLocalRedis({ dir, port: 0 });
  try {
    await work(redis.url);
  } finally {
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

it(`P11: a long random run loses and reorders nothing, TEST_SEED=${SEED}`, { timeout: RUN_MS + REST_MS }, async (t) => {
  const diary = new Diary();
  const run = (url: string) =>
    withCluster(url, SETTINGS, async (cluster) => {
      const { redis, keys } = cluster.open;
      const watch = await InboxWatch.start(Number(new URL(url).port), keys, NODES);
      try {
        const workers = new Workers(cluster, diary, SEED);
        const [api] = await Promise.all([cluster.api(), ...NODES.map((node) => workers.start(node))]);
        const client = new Client(api.url, SEED);
        const residents = new Residents(cluster, diary, SEED);
        await residents.settle();
        await client.fillUp();
        diary.note("the deaf stitch's share is full");

        const untilMs = Date.now() + RUN_MS;
        const deafAt = residents.at(DEAF);
        await Promise.all([workers.trouble(untilMs), residents.trouble(untilMs), client.trouble(untilMs)]);

        diary.note("the faults are over");
        await residents.remove(DEAF);
        await Promise.all(
          [SHOUTER, ...TALKERS.map(({ id }) => id)].map((id) =>
            until(`${id} has said its last`, () => client.stop(residents.at(id)), SETTLE_MS),
          ),
        );
        diary.note("nobody says any more");
        for (const node of NODES)
          await until(
            `the inbox of ${node} is empty`,
            async () => (await redis.xlen(keys.nodeInbox(node))) === 0,
            SETTLE_MS,
          );
        for (const node of NODES) assert.deepEqual(await redis.hmget(keys.nodeInboxLoad(node), "n", "b"), ["0", "0"]);
        const word = randomUUID();
        await redis.echo(word);
        await until("everything was seen", () => watch.hasSeen(word));

        const journals = readJournals(cluster);
        const history: History = {
          stored: watch.entries().flatMap(storedOf),
          received: journals.received,
          letters: await readLetters(client.mail),
          stays: residents.stays,
          visits: residents.visits,
          spoken: journals.spoken,
          accepted: [...client.accepted, ...journals.accepted],
          rejected: client.rejected,
        };
        tell(t, history);
        t.diagnostic(`${residents.moves} moves`);
        const problems = problemsOf(history);
        for (const problem of problems) noteTraces(diary, problem, history);
        assert.deepEqual(problems, []);
        assert.ok(client.full > 1, "the deaf stitch's share was full");
        const { node } = splitFullId(deafAt);
        const neighbours = journals.received.filter(
          ({ recipient, atMs }) => splitFullId(recipient).node === node && atMs > client.fullAtMs,
        );
        assert.ok(neighbours.length > 0, "beside it, others got their messages");
        assert.ok(!history.received.some(({ recipient }) => recipient === deafAt));
      } finally {
        watch.stop();
      }
    });
  try {
    await withWatchedRedis(run);
  } catch (error) {
    throw new Error(`TEST_SEED=${SEED} repeats it. What happened:\n${diary.lines.join("\n")}`, { cause: error });
  }
});
