import assert from "node:assert/strict";
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { nodeIdOf } from "../../../workers/node/membership/node-id.ts";
import { NotOwn } from "../../../workers/node/files/own-files.ts";

function folder(t: TestContext) {
  const stateDir = mkdtempSync(join(tmpdir(), "cs-node-id-"));
  mkdirSync(join(stateDir, "c"), { mode: 0o700 });
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  const path = join(stateDir, "c", "node-id.json");
  const start = (host: string, machine: string | null = "m1", isSet = false) => {
    const said: string[] = [];
    const config = { nodeId: host, nodeIdIsSet: isSet, stateDir, cluster: "c" };
    const { id, keep } = nodeIdOf(config, (message) => said.push(message), machine);
    return { id, keep, said };
  };
  return { path, start };
}

test("a node whose host is renamed keeps its id, and says so", async (t) => {
  const { path, start } = folder(t);
  const first = start("old");
  assert.deepEqual([first.id, first.said, existsSync(path)], ["old", [], false], "kept only once it has started");
  await first.keep();
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.deepEqual([start("old").id, start("old").said], ["old", []]);
  for (const machine of ["m1", null]) {
    const renamed = start("new", machine);
    assert.equal(renamed.id, "old");
    assert.match(
      renamed.said.join("|"),
      /^this node keeps the id old, .*it would be new\. .*STITCH_NODE_ID=new, or delete/,
    );
    await renamed.keep();
  }
  assert.equal(start("newer").id, "old");
});

test("with STITCH_NODE_ID nothing is read or kept", async (t) => {
  const { path, start } = folder(t);
  await start("set", "m1", true).keep();
  assert.ok(!existsSync(path));
  await start("old").keep();
  const set = start("set", "m1", true);
  await set.keep();
  assert.deepEqual([set.id, set.said, start("old").id], ["set", [], "old"]);
});

test("on another machine that shares the folder, the id is the name of its host", async (t) => {
  const { start } = folder(t);
  await start("h1", "m1").keep();
  const other = start("h2", "m2");
  await other.keep();
  assert.deepEqual([other.id, other.said], ["h2", []]);
  assert.equal(start("renamed", "m1").id, "h1");
});

for (const [what, bytes] of Object.entries({
  "no bytes": "",
  "NUL bytes": "\0\0\0",
  "half of its JSON": '{"id":"ol',
  "no id": '{"id":"../x","machine":null}',
}))
  test(`a file of ${what} counts as missing, and is written anew`, async (t) => {
    const { path, start } = folder(t);
    writeFileSync(path, bytes);
    const { id, keep, said } = start("host");
    assert.equal(id, "host");
    assert.match(said.join("|"), /node-id\.json cannot be read/);
    await keep();
    assert.deepEqual([start("other").id], ["host"]);
  });

test("reports a file that cannot be written, and goes on", async (t) => {
  const { path, start } = folder(t);
  const { keep, said } = start("host");
  mkdirSync(`${path}.new`);
  await keep();
  assert.match(said.join("|"), /not kept .*node-id\.json cannot be written/);
});

test("refuses a link, or a file of another user", (t) => {
  const { path, start } = folder(t);
  symlinkSync("/etc/hostname", path);
  assert.throws(() => start("host"), NotOwn);
  if (process.getuid?.() !== 0) return;
  rmSync(path);
  writeFileSync(path, '{"id":"stolen","machine":null}');
  chownSync(path, 54_321, 54_321);
  assert.throws(() => start("host"), NotOwn);
});
