import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { StitchResource } from "../../src/contract/stitch.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { dataDirOf, linesOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const linux = { skip: process.platform !== "linux" && "only Linux tells limits of a process" };

const create = (cluster: TestCluster, id: string, spec: Record<string, unknown>, waitMs?: number) =>
  cluster.run(
    {
      command: "stitch.create",
      target: "test.stitch.1",
      node: "n1",
      id,
      spec: { adaptor: "process", protocol: "none", minHealthyMs: 0, restart: { policy: "never" }, ...spec },
    },
    null,
    waitMs,
  );
const errorOf = (job: JobResource) => job.tasks[0]?.steps[0]?.error ?? assert.fail(JSON.stringify(job));
const comesTo = (cluster: TestCluster, id: string, state: StitchResource["state"]) =>
  until(`${id} is ${state}`, async () => {
    const stitch = await cluster.master.state.stitch(id);
    return stitch.state === state && stitch;
  });
const said = (cluster: TestCluster, id: string, source = "system"): string[] =>
  logOf(cluster, "n1", id)
    .filter((line) => line.source === source)
    .map(({ line }) => line);

describe("a program that cannot be started", { concurrency: 2 }, () => {
  it("has the reason in the step's error and in its log, and not as output of the program", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const dir = join(cluster.dir, "programs");
      mkdirSync(dir);
      const file = (name: string, text: string, mode = 0o755): string => {
        writeFileSync(join(dir, name), text);
        chmodSync(join(dir, name), mode);
        return join(dir, name);
      };
      symlinkSync(join(dir, "itself"), join(dir, "itself"));
      file("found", "#!/no/such/interpreter -x\n");
      const long = "x".repeat(8192);
      const PATH = `${dir}:/usr/bin:/bin`;
      const cases: Record<string, [spec: Record<string, unknown>, says: RegExp]> = {
        "no-folder": [{ command: ["true"], cwd: "/no/such" }, /^the working folder \/no\/such does not exist on n1$/],
        "no-folder-v1": [
          { command: ["true"], cwd: "/no/such", protocol: "process-v1" },
          /^the working folder \/no\/such does/,
        ],
        "folder-is-file": [
          { command: ["true"], cwd: import.meta.filename },
          /^the working folder .* cannot be entered on n1: Not a directory$/,
        ],
        "folder-is-circle": [
          { command: ["true"], cwd: join(dir, "itself") },
          /cannot be entered on n1: Too many levels/,
        ],
        "no-program": [{ command: ["no-such-program"] }, /^there is no program "no-such-program" on this node's PATH$/],
        "no-path": [{ command: ["./no-such"] }, /^there is no program ".\/no-such" on n1$/],
        "with-equals": [{ command: ["no=such"] }, /^there is no program "no=such" on this node's PATH$/],
        hyphen: [{ command: ["-"] }, /^there is no program "-" on this node's PATH$/],
        "a-folder": [{ command: [dir] }, /^".*programs" may not be executed$/],
        "not-executable": [{ command: [file("plain", "echo hi\n", 0o644)] }, /^".*plain" may not be executed$/],
        "no-interpreter": [
          { command: [file("gone", "#!/no/such/interpreter -x\necho hi\n")] },
          /^".*gone" could not be started: its first line names the interpreter "\/no\/such\/interpreter", which is not on this node$/,
        ],
        "no-interpreter-on-path": [
          { command: ["found"], env: { PATH } },
          /"found" could not be .* "\/no\/such\/interpreter"/,
        ],
        windows: [
          { command: [file("windows", "#!/bin/sh\r\necho hi\r\n")] },
          /windows" could not be started: its first line ends with CR LF, .* interpreter "\/bin\/sh"; save it with LF/,
        ],
        "bad-interpreter": [
          { command: [file("bad", `#!${file("text", "text", 0o644)}\n`)] },
          /bad" or its interpreter ".*text" may not be executed$/,
        ],
        "other-system": [
          { command: [file("other", elfWithLoader("/no/such/loader.so"))] },
          /other" could not be started: it is there, but the loader that it names is not; it was built for another system$/,
        ],
        "too-long": [
          {
            command: ["true", ...Array.from({ length: 255 }, () => long)],
            env: Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`A${index}`, long])),
          },
          /E2BIG|Argument list too long/,
        ],
      };
      for (const [id, [spec, says]] of Object.entries(cases)) {
        const job = await create(cluster, id, spec);
        const error = errorOf(job);
        assert.equal(error.code, "spawn_failed", `${id}: ${error.message}`);
        assert.match(error.message, says, id);
        assert.equal(error.stderrTail, undefined, id);
        await until(`${id} has it in its log`, () => said(cluster, id).includes(`spawn_failed: ${error.message}`));
        assert.deepEqual(said(cluster, id, "stderr"), [], id);
        assert.deepEqual((await comesTo(cluster, id, "failed")).lastExit, null, id);
      }
    });
  });

  it("differs from a program that runs and exits with the exit code and the words of a launcher", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const script = join(cluster.dir, "script");
      const words = "/usr/bin/env: 'x': No such file or directory";
      for (const [id, code] of [
        ["c125", 125],
        ["c126", 126],
        ["c127", 127],
      ] as const) {
        const error = errorOf(
          await create(cluster, id, { command: ["sh", "-c", `echo "${words}" >&2; exit ${code}`] }),
        );
        assert.deepEqual([error.code, error.stderrTail], ["exited_early", words]);
        assert.match(error.message, new RegExp(`^it exited with code ${code} within 1000 ms`));
        assert.equal((await comesTo(cluster, id, "failed")).lastExit?.code, code);
      }
      for (const [id, first, says] of [
        [
          "by-env",
          "#!/usr/bin/env no-such-interpreter\n",
          /with code 127 .*: .* interpreter "no-such-interpreter", which/,
        ],
        ["by-env-windows", "#!/usr/bin/env sh\r\n", /with code 127 .*: its first line ends with CR LF/],
      ] as const) {
        writeFileSync(script, first);
        chmodSync(script, 0o755);
        const error = errorOf(await create(cluster, id, { command: [script] }));
        assert.equal(error.code, "exited_early");
        assert.match(error.message, says);
      }
    });
  });

  it("a program whose name looks like an option or an assignment runs, in its folder, with its arguments and env", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const dir = join(cluster.dir, "programs");
      mkdirSync(dir);
      const text = '#!/bin/sh\nprintf "%s\\n" "$PWD" "$0" "$@" "$A" > "$OUT"\nexec sleep 600\n';
      for (const [index, name] of ["-", "a=b", "--", "-i", "plain name"].entries()) {
        writeFileSync(join(dir, name), text, { mode: 0o755 });
        const OUT = join(dir, `out${index}`);
        const command = [name, "-n", "x=y", ""];
        const job = await create(cluster, `s${index}`, {
          command,
          cwd: dir,
          env: { PATH: `${dir}:/usr/bin:/bin`, A: "b c", OUT },
        });
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        const lines = await until("it has told", () => linesOf(OUT).length === 6 && linesOf(OUT));
        assert.deepEqual(lines, [dir, join(dir, name), "-n", "x=y", "", "b c"]);
        const { pid } = await cluster.master.state.stitch(`s${index}`);
        assert.match(execFileSync("ps", ["-o", "args=", "-p", String(pid)], { encoding: "utf8" }), /^sleep 600/);
      }
    });
  });
});

it("a program without ProcessV1 reads the end of its input at once, and does not wait for it", async () => {
  await withCluster(url, {}, async (cluster) => {
    await cluster.node("n1");
    const spec = { command: ["sh", "-c", "cat; echo over; read -r line; echo $? >> ended; cat - >> ended"] };
    const job = await create(cluster, "reads", { ...spec, restart: { policy: "on-failure" } });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    const stitch = await comesTo(cluster, "reads", "stopped");
    assert.equal(stitch.lastExit?.code, 0);
    assert.deepEqual(linesOf(join(dataDirOf(cluster, "n1", "reads"), "ended")), ["1"]);
    assert.deepEqual(said(cluster, "reads", "stdout"), ["over"]);
  });
});

describe("a start that failed is tried again", { concurrency: 2 }, () => {
  it("after its working folder was a link to itself for a while", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const folder = join(cluster.dir, "folder");
      symlinkSync(folder, folder);
      const restart = { policy: "always", backoffMs: 200, maxBackoffMs: 200, maxRestarts: 1000 };
      const job = await create(cluster, "a", { command: ["sleep", "600"], cwd: folder, restart });
      assert.equal(errorOf(job).code, "spawn_failed");
      await until(
        "it was tried more than once",
        () => said(cluster, "a").filter((line) => line.startsWith("spawn_failed")).length > 2,
      );
      rmSync(folder);
      mkdirSync(folder);
      await comesTo(cluster, "a", "running");
    });
  });

  it("after the system started no more processes for a while", linux, async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip("only root can start a worker of a user that has no other processes");
      return;
    }
    await withCluster(url, {}, async (cluster) => {
      const uid = 54_321;
      chownSync(cluster.dir, uid, uid);
      const [setpriv, ...asUser] = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
      cluster.through = () => [setpriv, ...asUser];
      const worker = await cluster.node("n1");
      const bound = (most: string) =>
        execFileSync(setpriv, [...asUser, "prlimit", "--pid", String(worker.pid), `--nproc=${most}:`]);
      await cluster.create("n1", "before", ["sleep", "600"]);
      bound("1");
      const restart = { policy: "always", backoffMs: 200, maxBackoffMs: 200, maxRestarts: 1000 };
      const job = await create(cluster, "a", { command: ["sleep", "600"], restart });
      assert.equal(errorOf(job).code, "spawn_failed");
      assert.match(errorOf(job).message, /no more processes \(.*EAGAIN\); raise the limit .* \(ulimit -u\)/);
      await until("it is in its log", () => said(cluster, "a").some((line) => /^spawn_failed: .*EAGAIN/.test(line)));
      bound("10000");
      await comesTo(cluster, "a", "running");
      assert.equal((await cluster.master.state.stitch("before")).state, "running");
    });
  });

  it("after the worker ran out of open files; it keeps some of them for itself", linux, async () => {
    const work = async (cluster: TestCluster) => {
      cluster.through = () => ["prlimit", "--nofile=120:120"];
      const worker = await cluster.node("n1", { STITCH_LOG_LEVEL: "info" });
      assert.match(
        worker.output,
        /may have 120 files and connections open \(ulimit -n\), which is enough for about \d+ programs/,
      );
      const restart = { policy: "always", backoffMs: 200, maxBackoffMs: 200, maxRestarts: 1000 };
      const ids = Array.from({ length: 40 }, (_, index) => `s${index}`);
      const script = "while :; do echo x; sleep 0.5; done";
      const jobs = await Promise.all(ids.map((id) => create(cluster, id, { command: ["sh", "-c", script], restart })));
      const refused = jobs.filter(({ status }) => status === "failed");
      assert.ok(refused.length > 10 && refused.length < 35, `${refused.length} were refused`);
      for (const job of refused) {
        assert.equal(errorOf(job).code, "spawn_failed");
        assert.match(errorOf(job).message, /of its 120 files and connections in use \(ulimit -n\).*; raise ulimit -n/);
      }
      const open = () => readdirSync(`/proc/${worker.pid}/fd`).length;
      await until("all that run write their logs", async () => {
        const running = (await Promise.all(ids.map((id) => cluster.master.state.stitch(id)))).filter(
          ({ state }) => state === "running",
        );
        return running.every(({ id }) => said(cluster, id.split(":").at(-1) ?? "", "stdout").length > 0);
      });
      assert.ok(open() <= 110, `${open()} are open`);
      // Stitches that stop make room for those that were refused.
      const isRunning = async (id: string) => (await cluster.master.state.stitch(id)).state === "running";
      const first = (await Promise.all(ids.map(async (id) => ((await isRunning(id)) ? [id] : [])))).flat();
      await Promise.all(first.map((id) => cluster.run({ command: "stitch.stop", target: id })));
      await until("as many of the others run", async () => {
        const now = await Promise.all(ids.filter((id) => !first.includes(id)).map(isRunning));
        return now.filter(Boolean).length >= first.length;
      });
      // The worker is at its limit again, and can still connect to Redis again.
      const { incarnation, lastHeartbeatAt } = await cluster.master.state.node("n1");
      await cluster.open.redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
      const beatsAgain = async () =>
        Date.parse((await cluster.master.state.node("n1")).lastHeartbeatAt) > Date.parse(lastHeartbeatAt) + 1000;
      await until("it beats again", beatsAgain);
      assert.equal((await cluster.master.state.node("n1")).incarnation, incarnation);
      assert.doesNotMatch(worker.output, /EMFILE/);
    };
    await withOwnRedis((redis) => withCluster(redis.url, { STITCH_HEARTBEAT_MS: "500" }, work));
  });
});

/** An ELF program for this machine, headers only, that names a loader that is not there. */
function elfWithLoader(loader: string): string {
  const bytes = Buffer.alloc(4096);
  const machine = process.arch === "arm64" ? 183 : 62;
  bytes.write("\x7fELF\x02\x01\x01", "latin1");
  bytes.writeUInt16LE(2, 16);
  bytes.writeUInt16LE(machine, 18);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(0x400000n, 24);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(64, 52);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(2, 56);
  const header = (at: number, type: number, offset: number, length: number) => {
    bytes.writeUInt32LE(type, at);
    bytes.writeUInt32LE(5, at + 4);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.writeBigUInt64LE(BigInt(0x400000 + offset), at + 16);
    bytes.writeBigUInt64LE(BigInt(0x400000 + offset), at + 24);
    bytes.writeBigUInt64LE(BigInt(length), at + 32);
    bytes.writeBigUInt64LE(BigInt(length), at + 40);
    bytes.writeBigUInt64LE(4096n, at + 48);
  };
  header(64, 3, 512, loader.length + 1);
  header(120, 1, 0, 4096);
  bytes.write(loader, 512, "latin1");
  return bytes.toString("latin1");
}
