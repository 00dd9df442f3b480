// A shell runs the commands of docs/guide.md from top to bottom, as printed, beside a cluster that `stitch up` has started.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { quietPort } from "../support/quiet-port.ts";
import { Script, shellEnv } from "../support/script.ts";
import { commandsOf } from "../support/shell-commands.ts";
import { Typist } from "../support/typist.ts";

const root = join(import.meta.dirname, "../..");
const UP_LIMIT_MS = 90_000;
const STOP_LIMIT_MS = 40_000;
/** The longest command waits for several waves; the machine runs other tests beside it. */
const COMMAND_LIMIT_MS = 120_000;
const PRINTED_URL = "http://127.0.0.1:8787";

/** The commands to type, in order: a shell block is cut into commands, a program is saved to its file. */
function commandsIn(markdown: string): string[] {
  const blocks = markdown.matchAll(/(?:[Ss]ave as `([^`]+)`[^\n]*\n\n)?^```(sh|js)\n([^]*?)^```$/gm);
  return [...blocks].flatMap(([, file, language, text = ""]) => {
    if (language === "sh") return commandsOf(text);
    return file === undefined ? [] : [`cat > ${file} <<'PROGRAM'\n${text}PROGRAM`];
  });
}

/** Is the output an error of the API? curl itself exits with 0 in that case. */
const isProblem = (output: string): boolean => /"status":[45]\d\d\b/.test(output);

test("the commands of the guide can be typed from top to bottom", { timeout: 600_000 }, async (t) => {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "guide-")));
  const port = String(await quietPort());
  const url = PRINTED_URL.replace("8787", port);
  const up = new Script(
    process.execPath,
    [join(root, "src/cli/stitch.mjs"), "up"],
    home,
    shellEnv({ STITCH_PORT: port }),
  );
  const shell = new Typist(root, shellEnv({ HOME: home, STITCH_URL: url }));
  t.after(async () => {
    await shell.close();
    up.interrupt();
    try {
      await up.end(STOP_LIMIT_MS);
    } finally {
      await up.kill();
    }
    rmSync(home, { recursive: true, force: true });
  });
  await up.printed(/What happens from here on/, UP_LIMIT_MS);
  const hasCurl = spawnSync("curl", ["--version"]).status === 0;

  const commands = commandsIn(readFileSync(join(root, "docs/guide.md"), "utf8"));
  assert.ok(commands.length > 40, `only ${commands.length} commands were found`);
  const outputs = new Map<string, string>();
  for (const command of commands) {
    if (!hasCurl && command.startsWith("curl")) {
      t.diagnostic(`left out, there is no curl: ${command}`);
      continue;
    }
    const typed = command.replaceAll(PRINTED_URL, url);
    if (typed.endsWith("# Ctrl-C ends it")) {
      await shell.typeAndInterrupt(typed, COMMAND_LIMIT_MS);
      continue;
    }
    const { code, output } = await shell.type(typed, COMMAND_LIMIT_MS);
    const expected = Number(/# exit code (\d+)$/.exec(command)?.[1] ?? 0);
    assert.equal(code, expected, `${command}\n${output}`);
    assert.ok(!(command.startsWith("curl") && isProblem(output)), `${command}\n${output}`);
    outputs.set(command, output);
  }

  const printed = (command: string): string => outputs.get(command)?.trim() ?? "";
  assert.equal(printed('stitch send orders-1 "how many?" --reply --timeout 10s'), "2 orders");
  assert.match(printed("stitch logs orders-1"), /ready for orders/);
  assert.match(printed("stitch dead-letters --stitch orders-1"), /stitch_failed/);
  assert.match(printed('stitch jobs retry "$job"'), /succeeded, 1 of 1/);
});
