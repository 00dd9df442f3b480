import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { Specs } from "../../../workers/node/stitches/specs.ts";
import { stored } from "../../support/test-spec.ts";

const specOf = (word: string) => stored(stitchSpec.parse({ adaptor: "process", command: [word] }));
const [a, b, c] = [specOf("a"), specOf("b"), specOf("c")];

/** The specs of a node in its own folder, with a store that the test fills. */
function holding(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "cs-specs-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const store = new Map<string, string>();
  const asked: string[] = [];
  const offered: string[][] = [];
  const errors: unknown[] = [];
  const clock = { nowMs: 0 };
  const open = () => {
    const specs = new Specs({
      dir,
      orders: {
        spec: async (hash) => {
          asked.push(hash);
          return store.get(hash) ?? null;
        },
      },
      publishing: {
        missingSpecs: async (hashes) => hashes.filter((hash) => !store.has(hash)),
        offerSpecs: async (texts) => void offered.push([...texts.keys()]),
      },
      steadyNowMs: () => clock.nowMs,
      onError: (error) => errors.push(error),
    });
    specs.load();
    return specs;
  };
  return { open, store, asked, offered, errors, clock, path: (hash: string) => join(dir, "specs", hash) };
}

const put = (store: Map<string, string>, ...specs: readonly { specHash: string; text: string }[]) => {
  for (const { specHash, text } of specs) store.set(specHash, text);
};

test("asks for a spec once, however many bring it at once; then it is on disk, for this user only", async (t) => {
  const { open, store, asked, path } = holding(t);
  put(store, a);
  const specs = open();
  assert.equal(specs.find(a.specHash), null);
  const all = await Promise.all(Array.from({ length: 100 }, () => specs.bring([a.specHash, a.specHash])));
  assert.ok(all.every((refused) => refused.size === 0));
  assert.deepEqual([asked, specs.find(a.specHash)], [[a.specHash], a.spec]);
  assert.equal(readFileSync(path(a.specHash), "utf8"), a.text);
  assert.equal(statSync(path(a.specHash)).mode & 0o777, 0o600);
  store.clear();
  const next = open();
  assert.deepEqual(next.find(a.specHash), a.spec);
  assert.equal((await next.bring([a.specHash])).size, 0);
  assert.equal(asked.length, 1);
});

test("refuses a text with another hash, a missing one and one that is no spec, from store or disk", async (t) => {
  const { open, store, errors, path } = holding(t);
  const noSpec = stored({ adaptor: "none" } as never);
  store.set(a.specHash, b.text);
  put(store, noSpec);
  const specs = open();
  const refused = await specs.bring([a.specHash, c.specHash, noSpec.specHash]);
  for (const { specHash } of [a, c, noSpec]) assert.equal(refused.get(specHash)?.code, "spec_unknown");
  assert.match(refused.get(a.specHash)?.message ?? "", /is another text; it is not run/);
  assert.deepEqual(readdirSync(join(path(a.specHash), "..")), []);
  writeFileSync(path(a.specHash), b.text);
  writeFileSync(path(noSpec.specHash), noSpec.text);
  writeFileSync(path(`${b.specHash}.new`), "a piece of it");
  symlinkSync("/etc/passwd", path(c.specHash));
  const next = open();
  for (const { specHash } of [a, b, c, noSpec]) assert.equal(next.find(specHash), null);
  assert.equal(errors.length, 3);
  // What a crash or a person has left there does not block the right spec.
  put(store, a, c);
  assert.equal((await next.bring([a.specHash, c.specHash])).size, 0);
  assert.deepEqual([next.find(a.specHash), next.find(c.specHash)], [a.spec, c.spec]);
});

test("a spec that cannot be written is refused with its path, and comes as soon as it can be written", async (t) => {
  const { open, store, path } = holding(t);
  put(store, a);
  const specs = open();
  const inItsWay = `${path(a.specHash)}.new`;
  mkdirSync(inItsWay);
  const refused = await specs.bring([a.specHash]);
  assert.equal(refused.get(a.specHash)?.code, "internal");
  assert.match(refused.get(a.specHash)?.message ?? "", new RegExp(`specs/${a.specHash} cannot be written`));
  assert.equal(specs.find(a.specHash), null);
  rmSync(join(path(a.specHash), ".."), { recursive: true });
  assert.equal((await specs.bring([a.specHash])).size, 0);
  assert.equal(readFileSync(path(a.specHash), "utf8"), a.text);
});

test("a spec without a stitch goes after an hour and others stay; one that is asked for again is there", async (t) => {
  const { open, store, clock, path } = holding(t);
  put(store, a, b);
  const specs = open();
  await specs.bring([a.specHash, b.specHash]);
  clock.nowMs = 3_599_999;
  await specs.prune(() => new Set([b.specHash]));
  assert.ok(specs.find(a.specHash));
  clock.nowMs += 1;
  const pruned = specs.prune(() => new Set([b.specHash]));
  const again = specs.bring([a.specHash]);
  await Promise.all([pruned, again]);
  assert.deepEqual([specs.find(a.specHash), specs.find(b.specHash)], [a.spec, b.spec]);
  assert.deepEqual(readdirSync(join(path(a.specHash), "..")).sort(), [a.specHash, b.specHash].sort());
});

test("offers what the store has lost, and withdraws the offer once the store has it", async (t) => {
  const { open, store, offered } = holding(t);
  put(store, a, b);
  const specs = open();
  await specs.bring([a.specHash, b.specHash]);
  const inUse = new Set([a.specHash, b.specHash, c.specHash]);
  await specs.offer(inUse);
  assert.deepEqual(offered, []);
  store.delete(a.specHash);
  await specs.offer(inUse);
  put(store, a);
  await specs.offer(inUse);
  await specs.offer(inUse);
  assert.deepEqual(offered, [[a.specHash], []]);
});
