// What infra/install.md says is typed, from top to bottom, on three machines with a systemd each and on the operator's.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { isDeepStrictEqual, promisify } from "node:util";
import type { NodeResource } from "../../src/contract/node.ts";
import type { ListedStitchResource } from "../../src/contract/stitch.ts";
import { until } from "../support/cluster.ts";
import { Machines, withoutMachines } from "../support/machines.ts";
import { copyOfRepository, runRelease } from "../support/release.ts";
import { shellEnv } from "../support/script.ts";
import { commandsOf } from "../support/shell-commands.ts";
import { Typist } from "../support/typist.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "../..");
const COMMAND_LIMIT_MS = 180_000;
const NEXT_VERSION = "0.1.1";
/** Each part, and a machine that it runs on. */
const PARTS = [
  ["m1", "api"],
  ["m2", "master"],
  ["m3", "node"],
] as const;
/** The worst rate that systemd-analyze may give a unit: from 0 to 100, where what it calls OK ends at 50. */
const MOST_EXPOSED = 15;
/** The stitches of the guide's group, one on each machine. */
const SPREAD = ["m1 running", "m2 running", "m3 running"];

type Block = { readonly step: string; readonly where: string; readonly commands: readonly string[] };

/** The shell blocks, in order; the first line of each says where it is typed. */
function blocksOf(markdown: string): Block[] {
  return markdown.split(/^## /m).flatMap((section) => {
    const [step = ""] = section.split("\n");
    return [...section.matchAll(/^```sh\n# on ([^\n,]+)\n([^]*?)^```$/gm)].map(([, where = "", text = ""]) => ({
      step,
      where,
      commands: where === "your machine" ? commandsOf(text) : [text],
    }));
  });
}

const GUIDE = readFileSync(join(root, "infra/install.md"), "utf8");
const blocks = blocksOf(GUIDE);

const skip = withoutMachines();

describe("infra/install.md, typed from top to bottom", { skip, timeout: 900_000 }, () => {
  const machines = new Machines({ m1: "10.0.0.1", m2: "10.0.0.2", m3: "10.0.0.3" }, "10.0.0.254");
  const typed = new Set<Block>();
  const took: string[] = [];
  let clone = "";
  let operator: Typist;

  before(async () => {
    clone = await copyOfRepository();
    const path = [machines.bin, dirname(process.execPath), shellEnv({})["PATH"]].join(delimiter);
    operator = new Typist(clone, shellEnv({ PATH: path, HOME: clone }), machines.asOperator());
    await Promise.all(machines.all.map((machine) => machine.boot()));
  });
  after(async () => {
    await operator.close();
    await machines.remove();
    rmSync(clone, { recursive: true, force: true });
  });

  let isBroken = false;
  /** A step needs the ones before it. */
  function step(title: string, work: (t: TestContext) => Promise<void>): void {
    it(title, async (t) => {
      if (isBroken) return t.skip("an earlier step has failed");
      isBroken = true;
      await work(t);
      isBroken = false;
    });
  }

  /** Types a command on the operator's machine. */
  async function type(command: string): Promise<string> {
    // It needs the registry, which is not on the machines' network.
    if (command === "npm run release") {
      await runRelease(clone);
      return "";
    }
    // The wait for what cannot be moved, in less time.
    const { code, output } = await operator.type(command.replace("--timeout 1m", "--timeout 15s"), COMMAND_LIMIT_MS);
    assert.equal(code, 0, `${command}\n${output}`);
    return output;
  }

  async function typeOn(name: string, text: string): Promise<string> {
    const password = readFileSync(join(clone, "machines/admin-password"), "utf8").trim();
    const needsPackages = text.includes("apt-get");
    const { code, output } = await machines
      .of(name)
      .run(`set -e\n${text.replace("ADMIN_PASSWORD", password)}`, !needsPackages);
    assert.equal(code, 0, `on ${name}: ${text}\n${output}`);
    return output;
  }

  /** Types the blocks of a step. @returns what was printed on the operator's machine. */
  async function follow(step: string, from = 0, to = 99): Promise<string> {
    const startedAtMs = performance.now();
    const ofStep = blocks.filter((block) => block.step === step).slice(from, to);
    assert.ok(ofStep.length > 0, `there is no step "${step}"`);
    let output = "";
    for (const block of ofStep) {
      typed.add(block);
      for (const command of block.commands)
        if (block.where === "your machine") output += await type(command);
        else await typeOn(block.where.replace("on ", ""), command);
    }
    took.push(`${step} ${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`);
    return output;
  }

  async function items<T>(path: string): Promise<T[]> {
    const output = await type(`curl -sS -H "Authorization: Bearer $STITCH_TOKEN" "$STITCH_URL${path}"`);
    return (JSON.parse(output) as { items: T[] }).items;
  }
  const stitches = () => items<ListedStitchResource>("/v1/stitches");
  const placesOf = async (application: string) =>
    (await stitches())
      .filter(({ group }) => group.startsWith(`${application}.`))
      .map(({ node, state }) => `${node} ${state}`)
      .sort();
  const nodes = async () =>
    (await items<NodeResource>("/v1/nodes")).map(({ id, liveness, version }) => `${id} ${liveness} ${version}`).sort();

  step("makes a release, users and passwords", async () => {
    await follow("1. Make a release");
    await follow("2. Make users and passwords");
    const { stdout } = await run("find", [join(clone, "machines"), "-perm", "/077"]);
    assert.equal(stdout, "", "only its owner may read a secret");
  });

  step("installs it, and starts Redis and the parts", async () => {
    await follow("3. Install");
    await follow("4. Start Redis");
    await follow("5. Start the parts");
    const output = await follow("6. Use it");
    for (const node of ["m1", "m2", "m3"]) assert.match(output, new RegExp(`^${node} +alive`, "m"));
    assert.deepEqual(await placesOf("demo"), SPREAD);
  });

  step(
    "gives units that systemd finds nothing wrong with, and that let a part do little else than its work",
    async () => {
      const units = "/etc/systemd/system/crossstitch-*.service";
      const m1 = machines.of("m1");
      assert.deepEqual(await m1.run(`systemd-analyze verify ${units}`), { code: 0, output: "" });
      const rated = (file: string) =>
        m1.run(
          `systemd-analyze security --offline=yes --threshold=${MOST_EXPOSED} ${file} > rated || { tail -1 rated; false; }`,
        );
      for (const [, part] of PARTS)
        assert.deepEqual(await rated(`/etc/systemd/system/crossstitch-${part}.service`), { code: 0, output: "" });
      await typeOn("m1", `grep -v "^Protect" /etc/systemd/system/crossstitch-node.service > exposed.service`);
      assert.match((await rated("exposed.service")).output, /Overall exposure level/);
    },
  );

  step("runs each part as little as it needs", async () => {
    for (const [name, part] of PARTS) {
      const show = (property: string) =>
        typeOn(name, `systemctl show --value --property ${property} crossstitch-${part}`);
      assert.equal((await show("ActiveState")).trim(), "active", part);
      assert.equal((await show("NRestarts")).trim(), "0", part);
      const pid = (await show("MainPID")).trim();
      const status = await typeOn(name, `cat /proc/${pid}/status`);
      assert.match(status, /^CapBnd:\s+0+$/m);
      assert.match(status, /^Seccomp:\s+2$/m);
      assert.match(status, /^NoNewPrivs:\s+1$/m);
      assert.doesNotMatch(status, /^Uid:\s+0\b/m);
    }
    // A stitch on the API's machine looks for the API's token in every process that it may look into.
    const look = `for each in /proc/[0-9]*/environ; do tr "\\0" "\\n" < $each; done 2> /dev/null | grep -o "^[A-Z_]*=" | sort -u; echo end`;
    await type(`stitch run spy.spy.1 --node m1 --id spy -- sh -c '${look}; exec sleep 600'`);
    const seen = await until("it has looked", async () => {
      const output = await type("stitch logs spy");
      return output.includes("end") && output;
    });
    assert.match(seen, /STITCH_SESSION=/);
    assert.doesNotMatch(seen, /STITCH_TOKEN=/);
    await type("stitch rm spy");
  });

  step("says why a part cannot start, and goes on trying Redis", async () => {
    assert.equal(
      (await typeOn("m1", "systemctl show --value --property StartLimitIntervalUSec redis-server")).trim(),
      "0",
    );
    const m3 = machines.of("m3");
    await typeOn("m3", "sed -i.good 's/:[0-9a-f]*@/:wrong@/' /etc/crossstitch/node.env");
    assert.notEqual((await m3.run("systemctl restart crossstitch-node")).code, 0);
    assert.match(
      await typeOn("m3", "journalctl -u crossstitch-node"),
      /Redis lets nobody in with the user and password/,
    );
    await typeOn(
      "m3",
      "mv /etc/crossstitch/node.env.good /etc/crossstitch/node.env && systemctl restart crossstitch-node",
    );
    await until("its stitch is back", async () => isDeepStrictEqual(await placesOf("demo"), SPREAD));
  });

  step("loses a machine, which comes back with its stitches", async () => {
    await follow("7. Lose a machine", 0, 1);
    await machines.of("m3").off();
    await machines.of("m3").boot();
    await follow("7. Lose a machine", 1);
    assert.deepEqual(await placesOf("demo"), SPREAD);
  });

  step("is upgraded, machine after machine", async () => {
    // It cannot be moved: the drain of its machine is not waited for to the end.
    await type("stitch run pinned.clock.1 --node m2 -- sleep 600");
    await run("npm", ["version", NEXT_VERSION, "--no-git-tag-version"], { cwd: clone, env: shellEnv({}) });
    writeFileSync(join(clone, "src/version.ts"), `export const VERSION = "${NEXT_VERSION}";\n`);
    const output = await follow("Upgrade");
    const upgraded = ["m1", "m2", "m3"].map((id) => `${id} alive ${NEXT_VERSION}`);
    assert.deepEqual(await nodes(), upgraded, output);
    assert.deepEqual(await placesOf("demo"), SPREAD);
    assert.deepEqual(await placesOf("pinned"), ["m2 running"]);
  });

  step("goes back to the old version of a machine", async () => {
    const [, back = ""] = /^```sh\n# on your machine, only then\n([^]*?)^```$/m.exec(GUIDE) ?? [];
    for (const command of commandsOf(back)) await type(command);
    assert.match((await nodes()).join("\n"), /^m2 alive 0\.1\.0$/m);
    await until("what runs there is back", async () => isDeepStrictEqual(await placesOf("pinned"), ["m2 running"]));
  });

  step("is backed up and restored; what runs goes on", async () => {
    await follow("Back up");
    await type("stitch run late.clock.1 --node m2 -- sleep 600");
    const sessions = async () => (await stitches()).map(({ fullId, startedAt }) => `${fullId} ${startedAt}`).sort();
    const earlier = await sessions();
    await follow("Restore");
    await type('until curl -fsS "$STITCH_URL/readyz"; do sleep 0.2; done');
    await until("all is published again", async () => (await stitches()).length === earlier.length, 60_000);
    assert.deepEqual(await sessions(), earlier);
    assert.deepEqual(await placesOf("late"), ["m2 running"]);
    await follow("A fourth machine");
  });

  step("has no other block, and stops in good order", async (t) => {
    assert.deepEqual(
      blocks.filter((block) => !typed.has(block)),
      [],
    );
    await typeOn("m2", "systemctl stop crossstitch-node crossstitch-master");
    assert.match((await nodes()).join("\n"), /^m2 left/m);
    for (const step of took) t.diagnostic(step);
  });
});
