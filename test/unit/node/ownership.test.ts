import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Ownership, StateFolderTaken, StateFolderUnusable } from "../../../workers/node/membership/ownership.ts";

const SAYS = /^the state folder \S+ cannot be used \(E[A-Z]+: .*\)\. .*STITCH_STATE_DIR/;

async function withFolder(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-ownership-"));
  try {
    await work(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const assertUnusable = (dir: string, says = SAYS) =>
  assert.rejects(Ownership.take(dir), (error) => {
    assert.ok(error instanceof StateFolderUnusable);
    assert.match(error.message, says);
    assert.ok(error.message.includes(dir));
    return true;
  });

test("makes a state folder and the folders above it, and accepts an existing one", () =>
  withFolder(async (dir) => {
    const deep = join(dir, "a", "b");
    for (let time = 0; time < 2; time++) await (await Ownership.take(deep)).release();
  }));

test("refuses a state folder that is a file, or below a file, and names the setting", () =>
  withFolder(async (dir) => {
    const file = join(dir, "file");
    writeFileSync(file, "");
    await assertUnusable(file);
    await assertUnusable(join(file, "default", "n1"));
  }));

test(
  "refuses a state folder at once if nobody can make it",
  { skip: process.platform !== "linux" && "there is no /proc" },
  () => assertUnusable("/proc/crossstitch/default/n1"),
);

test(
  "refuses a state folder that it may not write to, and names the setting",
  { skip: process.getuid?.() === 0 && "root may write anywhere" },
  () =>
    withFolder(async (dir) => {
      const closed = join(dir, "closed");
      mkdirSync(closed);
      chmodSync(closed, 0o500);
      await assertUnusable(closed);
      await assertUnusable(join(closed, "default", "n1"));
    }),
);

const isRoot = process.getuid?.() === 0;
const onWindows = process.getuid === undefined && "there are no modes";
const STRANGER = 54_321;
const NEXT = String.raw`\)\. Look at what is in it .*STITCH_STATE_DIR`;

for (const mode of [0o777, 0o770, 0o702])
  test(`refuses a state folder of mode ${mode.toString(8)}, and writes nothing there`, { skip: onWindows }, () =>
    withFolder(async (dir) => {
      chmodSync(dir, mode);
      await assertUnusable(dir, new RegExp(`others may write to .*mode is ${mode.toString(8)}${NEXT}`));
      assert.deepEqual(readdirSync(dir), []);
    }),
  );

test(
  "refuses a state folder that others could replace, unless the folder above it is sticky",
  { skip: onWindows },
  () =>
    withFolder(async (top) => {
      const dir = join(top, "default", "n1");
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      const says = (path: string) =>
        assert.rejects(Ownership.take(dir, top), new RegExp(`others may write to ${path},`));
      chmodSync(top, 0o777);
      await says(top);
      chmodSync(top, 0o1777);
      await (await Ownership.take(dir, top)).release();
      chmodSync(join(top, "default"), 0o777);
      await says(join(top, "default"));
      await (await Ownership.take(dir, dir)).release();
    }),
);

test("refuses a state folder of another user", { skip: isRoot ? false : "root alone gives files away" }, () =>
  withFolder(async (top) => {
    const dir = join(top, "default", "n1");
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chownSync(dir, STRANGER, STRANGER);
    await assertUnusable(dir, /belongs to user 54321/);
    chownSync(dir, 0, 0);
    chownSync(join(top, "default"), STRANGER, STRANGER);
    await assert.rejects(Ownership.take(dir, top), /belongs to user 54321.*STITCH_STATE_DIR/);
  }),
);

test("does not write through a link that was planted in place of a file", { skip: onWindows }, () =>
  withFolder(async (top) => {
    const [dir, foreign] = [join(top, "n1"), join(top, "foreign")];
    mkdirSync(dir, { mode: 0o700 });
    writeFileSync(foreign, "precious");
    symlinkSync(foreign, join(dir, "owner.json.new"));
    const ownership = await Ownership.take(dir);
    await ownership.record({ session: "s", incarnation: 1, pid: 1, watchdogPid: null });
    await ownership.release();
    assert.equal(readFileSync(foreign, "utf8"), "precious");
    for (const name of ["owner.json", "owner.lock"]) {
      const facts = lstatSync(join(dir, name));
      assert.ok(facts.isFile());
      assert.equal(facts.mode & 0o777, 0o600, name);
    }
    for (const name of ["owner.json", "owner.lock"]) {
      rmSync(join(dir, name), { force: true });
      symlinkSync(join(top, "nowhere"), join(dir, name));
      await assertUnusable(dir, new RegExp(`${name} is a link to another file${NEXT}`));
      rmSync(join(dir, name));
    }
    assert.ok(!existsSync(join(top, "nowhere")));
  }),
);

test("reads nothing that another user wrote about the former owner", { skip: isRoot ? false : "needs root" }, () =>
  withFolder(async (dir) => {
    const path = join(dir, "owner.json");
    writeFileSync(
      path,
      JSON.stringify({ session: "s", formerSessions: [], incarnation: 1, pid: 1, watchdogPid: null }),
    );
    chownSync(path, STRANGER, STRANGER);
    await assertUnusable(dir, /owner\.json belongs to user 54321/);
  }),
);

test("refuses a second owner in the same process until the first one releases the folder", () =>
  withFolder(async (dir) => {
    const first = await Ownership.take(dir);
    await assert.rejects(Ownership.take(dir), StateFolderTaken);
    await first.release();
    await first.release();
    await (await Ownership.take(dir)).release();
  }));

test("refuses a lock file that is a folder, and names the setting", () =>
  withFolder(async (dir) => {
    mkdirSync(join(dir, "owner.lock"));
    await assertUnusable(dir, /owner\.lock cannot be opened to write/);
  }));

// SQLite's codes if the system call fails with ENOLCK, and with ENOSYS or EINVAL.
for (const errcode of [5, 3850])
  test(`distinguishes a filesystem without locks from a folder that is taken (${errcode})`, () =>
    withFolder(async (dir) => {
      const noLocks = () => {
        throw Object.assign(new Error("SQLite says no"), { errcode });
      };
      await assert.rejects(Ownership.take(dir, dir, noLocks), (error) => {
        assert.ok(error instanceof StateFolderUnusable);
        assert.match(error.message, /its filesystem refuses to lock \S+owner\.lock.*STITCH_STATE_DIR/);
        return true;
      });
      assert.deepEqual(readdirSync(dir), []);
    }));

test("keeps the sessions of the newest sixteen lives, and those older ones that are needed", () =>
  withFolder(async (dir) => {
    const needed = new Set(["s1"]);
    for (let life = 0; life < 20; life++) {
      const ownership = await Ownership.take(dir);
      const whole = Array.from({ length: life }, (_, before) => `s${before}`);
      assert.deepEqual(
        ownership.formerSessions,
        whole.filter((session, index) => index >= life - 16 || needed.has(session)),
        "until it is known what is needed, none is forgotten",
      );
      ownership.forgetOldest(needed);
      assert.deepEqual(
        ownership.formerSessions,
        whole.filter((session, index) => index >= life - 15 || needed.has(session)),
      );
      for (let time = 0; time < 2; time++)
        await ownership.record({ session: `s${life}`, incarnation: life, pid: 1, watchdogPid: null });
      await ownership.release();
    }
  }));
