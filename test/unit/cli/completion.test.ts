import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { type AskIds, suggest } from "../../../src/cli/completion/suggest.ts";
import { createProgram } from "../../../src/cli/program.ts";
import { CannedApi, problem, sendJson, stitch } from "./canned-api.ts";
import { bareEnv, runStitch, STITCH } from "./run-stitch.ts";

const asked: string[] = [];
const ids: AskIds = (kind, current, url) => {
  asked.push([kind, current, url ?? ""].join(" ").trim());
  return Promise.resolve([{ value: `${kind}-1`, text: "" }]);
};

/** @returns the suggestions for a line whose cursor is at its end. */
async function at(line: string): Promise<string[]> {
  const { values, files } = await suggest(createProgram(), line.split(" "), ids);
  return files ? ["<files>"] : values.map(({ value }) => value);
}

test("suggests what the program declares: commands, options, choices, files", async () => {
  for (const [line, suggested] of [
    ["n", ["node", "nodes"]],
    ["plan re", ["restart", "rebalance", "relabel"]],
    ["help stat", ["status"]],
    ["jobs w", ["watch"]],
    ["completion ", ["bash", "zsh", "fish"]],
    ["complet", ["completion"]],
    ["nodes --l", ["--liveness", "--limit"]],
    ["logs -", ["--follow", "-f", "--tail", "-n", "--url", "--json", "--help", "-h"]],
    ["run g --strategy ", ["spread", "binpack"]],
    ["run g --strategy=s", ["--strategy=spread"]],
    ["run g --nothing=s", []],
    ["run g --spec ./o", ["<files>"]],
    ["node --state-dir ", ["<files>"]],
    ["run g ", ["--"]],
    ["run g -- ./o", ["<files>"]],
    ["run g -- node --", ["<files>"]],
    ["up ", []],
    ["status word ", []],
    ["no such command ", []],
    ["stop a --reason why --ti", ["--timeout"]],
  ] as const)
    assert.deepEqual(await at(line), suggested, line);
  assert.deepEqual(asked, []);
});

test("asks for the ids that a placeholder names, at the API that --url names", async () => {
  for (const [line, suggested, kinds] of [
    ["nodes ", ["node-1"], ["node"]],
    ["nodes a b", [], []],
    ["stop n1:", [], ["stitch n1:", "group n1:"]],
    ["stop ", ["stitch-1", "group-1"], ["stitch", "group"]],
    ["plan drain ", ["node-1"], ["node"]],
    ["move a --to=n", ["--to=node-1"], ["node n"]],
    ["ps --url http://a --node ", ["node-1"], ["node  http://a"]],
    ["ps --url=http://a --group ", ["stitch-1", "group-1"], ["stitch  http://a", "group  http://a"]],
    ["events --group ", ["group-1"], ["group"]],
    ["scale shop.a.1 ", [], []],
  ] as const) {
    asked.length = 0;
    assert.deepEqual(await at(line), suggested, line);
    assert.deepEqual(asked, kinds, line);
  }
});

const NODES = [
  { id: "n1", liveness: "alive" },
  { id: "n2", liveness: "dead" },
];

function clusterApi(): Promise<CannedApi> {
  const list = (items: unknown) => ({ items, nextCursor: null, asOf: "t" });
  return CannedApi.start(({ url }, response) => {
    if (url.startsWith("/v1/nodes")) sendJson(response, 200, list(NODES));
    else if (url.startsWith("/v1/groups")) sendJson(response, 200, list([{ group: "shop.orders" }]));
    else
      sendJson(
        response,
        200,
        list([stitch(), stitch({ id: "a", fullId: "n1:a" }), stitch({ id: "a", fullId: "n2:a" })]),
      );
  });
}

test("complete prints ids of the API with what they are: full ids, and bare ones that one stitch has", async () => {
  await using api = await clusterApi();
  const on = { STITCH_URL: api.url, STITCH_TOKEN: "token" };
  const nodes = await runStitch(["complete", "--", "nodes", ""], on);
  assert.deepEqual(nodes, { code: 0, stdout: "n1\talive\nn2\tdead\n", stderr: "" });
  assert.equal(api.asked[0]?.headers.authorization, "Bearer token");
  const full = "n1:orders-1\tshop.orders.1, running\n";
  assert.equal((await runStitch(["complete", "--", "logs", "n1:o"], on)).stdout, full);
  assert.match(api.asked.at(-1)?.url ?? "", /[?]node=n1&/);
  assert.equal((await runStitch(["complete", "--", "logs", "o"], on)).stdout, full.slice("n1:".length));
  assert.equal((await runStitch(["complete", "--", "logs", "a"], on)).stdout, "");
});

test("complete says nothing when the API does not answer, refuses, or has no address", async () => {
  const silent = { code: 0, stdout: "", stderr: "" };
  await using api = await CannedApi.start(() => undefined);
  const typed = ["complete", "--", "nodes", ""];
  assert.deepEqual(await runStitch(typed, { STITCH_URL: api.url }), silent);
  api.answerWith((_, response) => sendJson(response, 401, problem(401, "unauthenticated")));
  assert.deepEqual(await runStitch(typed, { STITCH_URL: api.url }), silent);
  assert.deepEqual(await runStitch(typed, { STITCH_URL: "no address" }), silent);
});

test("an unknown shell is a usage error that names the three; complete is not shown", async () => {
  for (const args of [["completion", "tcsh"], ["completion"]]) {
    const { code, stdout, stderr } = await runStitch(args, {});
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, args.length === 2 ? /Allowed choices are bash, zsh, fish/ : /missing required argument/);
  }
  assert.doesNotMatch(createProgram().helpInformation(), /^ +complete /m);
});

/**
 * Each prints what it suggests for the line in $LINE, a suggestion per line. To bash's function readline passes what it will
 * replace: with these lines, what comes after the last space, colon or =.
 */
const SHELLS = {
  bash: `eval "$(stitch completion bash)"
COMP_LINE=$LINE COMP_POINT=\${#LINE}
$(complete -p stitch | sed 's/.*-F \\([^ ]*\\).*/\\1/') stitch "\${LINE##*[ :=]}"
printf '%s\\n' "\${COMPREPLY[@]}"`,
  // Outside an editor there is no compsys: what it would show is printed instead.
  zsh: `compdef() { :; }
_describe() { print -rl -- "\${(@P)argv[-1]}"; }
_files() { print -rl -- $PREFIX*; }
eval "$(stitch completion zsh)"
words=("\${(@s: :)LINE}"); CURRENT=$#words; PREFIX=$words[-1]
_stitch`,
  fish: `stitch completion fish | source
complete -C $LINE`,
} as const;

const WITHOUT_FILES: Readonly<Record<keyof typeof SHELLS, string>> = { bash: "--norc", zsh: "-f", fish: "--no-config" };

for (const shell of ["bash", "zsh", "fish"] as const) {
  const missing = spawnSync(shell, ["--version"]).error !== undefined;
  test(`${shell} completes with the script`, { skip: missing ? `there is no ${shell} here` : false }, async () => {
    await using api = await clusterApi();
    const dir = await mkdtemp(join(tmpdir(), "completion-"));
    try {
      const program = join(dir, "stitch");
      await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${STITCH}' "$@"\n`);
      await chmod(program, 0o755);
      await writeFile(join(dir, "spec.json"), "{}");
      const tab = async (line: string): Promise<string[]> => {
        const child = spawn(shell, [WITHOUT_FILES[shell], "-c", SHELLS[shell]], {
          cwd: dir,
          env: bareEnv({
            PATH: `${dir}${delimiter}${process.env["PATH"] ?? ""}`,
            LINE: line,
            STITCH_URL: api.url,
            HOME: dir,
          }),
          stdio: ["ignore", "pipe", "pipe"],
          timeout: 20_000,
        });
        const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
        assert.equal(stderr, "", line);
        const shown = stdout.trimEnd().split("\n");
        // zsh's and fish's also say what each is.
        return shown.map((each) =>
          shell === "zsh" ? (each.split(/(?<!\\):/)[0] ?? "").replace("\\:", ":") : (each.split("\t")[0] ?? ""),
        );
      };
      assert.deepEqual((await tab("stitch n")).toSorted(), ["node", "nodes"]);
      const flags = await tab("stitch nodes --");
      assert.deepEqual(
        ["--json", "--liveness", "--zone"].filter((flag) => !flags.includes(flag)),
        [],
      );
      assert.deepEqual(await tab("stitch nodes "), ["n1", "n2"]);
      // Readline replaces only what comes after the colon.
      assert.deepEqual(await tab("stitch logs n1:o"), [shell === "bash" ? "orders-1" : "n1:orders-1"]);
      assert.deepEqual(await tab("stitch run shop.a.1 --spec sp"), ["spec.json"]);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
}
