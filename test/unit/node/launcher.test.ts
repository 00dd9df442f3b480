import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Launcher } from "../../../workers/node/adaptors/launcher.ts";
import { until } from "../../support/cluster.ts";

const hasEnv = (await Launcher.look()).missing === null;
const skip = !hasEnv && "the env of this machine does not know -C";

function fileOf(t: TestContext, text: string): string {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, "env");
  writeFileSync(path, text);
  chmodSync(path, 0o755);
  return path;
}

test("a program is started by env in its folder, and spawn gets neither name", { skip }, async () => {
  const launcher = await Launcher.look();
  const { file, args, cwd, argv0, tools } = launcher.launch("/some/where", "program", ["-x"]);
  assert.deepEqual([file, args, cwd], ["/usr/bin/env", ["-C", "/some/where", "--", "program", "-x"], "/"]);
  assert.match(argv0 ?? "", /^launch-[0-9a-f]{12}\/env$/);
  assert.deepEqual(tools, [`${argv0}: `]);
  assert.notEqual((await Launcher.look()).launch("/", "x", []).argv0, argv0, "no two workers' are the same");
});

test("a program whose name means something to env is started through nice", { skip }, async () => {
  const launcher = await Launcher.look();
  for (const program of ["-", "a=b", "./a=b", "=", "--a=b"])
    assert.deepEqual(launcher.launch("/", program, []).args.slice(2), [
      "--",
      "/usr/bin/nice",
      "-n",
      "0",
      "--",
      program,
    ]);
  for (const program of ["--", "-i", "-u", "a b"])
    assert.deepEqual(launcher.launch("/", program, []).args.slice(2), ["--", program]);
});

test("if env is missing, hangs or does not know -C, programs are started directly, and that is reported", async (t) => {
  const busybox = fileOf(t, '#!/bin/sh\necho "env: unrecognized option: C" >&2; exit 1\n');
  const old = fileOf(t, "#!/bin/sh\necho \"$0: invalid option -- 'C'\" >&2; exit 125\n");
  const hanging = fileOf(t, "#!/bin/sh\nexec sleep 600\n");
  for (const env of [busybox, old, hanging, "/no/such/env"]) {
    const launcher = await Launcher.look(env);
    assert.match(launcher.missing ?? "", /does not know -C.*install GNU coreutils 8.28 or later/, env);
    assert.deepEqual(launcher.launch("/some", "a", ["b"]), { file: "a", args: ["b"], cwd: "/some", tools: [] });
  }
});

test("a process is under way until it has become its program; another program named env is not", async (t) => {
  if (!hasEnv || process.platform !== "linux") {
    t.skip("it takes Linux, and GNU's env");
    return;
  }
  const launcher = await Launcher.look();
  const running = spawn(fileOf(t, "#!/bin/sh\nread -r line\n"), { stdio: ["pipe", "ignore", "ignore"] });
  t.after(() => running.kill("SIGKILL"));
  await until("its file is the interpreter", () => running.pid !== undefined);
  assert.equal(launcher.isUnderWay(running.pid ?? 0), false, "its name is env, its file is not");
  const launched = launcher.launch("/", "sleep", ["600"]);
  const child = spawn(launched.file, launched.args, { cwd: launched.cwd, argv0: launched.argv0 ?? "" });
  t.after(() => child.kill("SIGKILL"));
  await until("it is the program", () => !launcher.isUnderWay(child.pid ?? 0));
  assert.equal(launcher.isUnderWay(2 ** 22 + 1), false, "there is no such process");
});
