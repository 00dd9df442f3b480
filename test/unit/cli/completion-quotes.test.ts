// Words with quotes, colons and spaces, completed by a real bash, zsh and fish: what they ask, and the line that comes of it.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { SCRIPTS } from "../../../src/cli/completion/scripts.ts";
import { until } from "../../support/cluster.ts";
import { bareEnv } from "./run-stitch.ts";
import { hasTerminals } from "./terminal.ts";

/** Writes down the words that it is asked about; has one id, and files after `cat`. */
const STITCH = `#!/bin/sh
shift 2
printf '<%s>' "$@" >"$DIR/asked"
for current; do :; done
case " $* " in
  *" cat "*) echo :files ;;
  *) case n1:spare in "$current"*) printf 'n1:spare\\tshop, running\\n' ;; esac ;;
esac
`;

/** What is typed before Tab, the words that the script must ask about, and the line after Tab. */
const LINES = [
  ["stitch logs n1:sp", "<logs><n1:sp>", "stitch logs n1:spare"],
  ["stitch logs n1:", "<logs><n1:>", "stitch logs n1:spare"],
  ['stitch logs "n1:sp', "<logs><n1:sp>", 'stitch logs "n1:spare"'],
  ["stitch logs 'n1:sp", "<logs><n1:sp>", "stitch logs 'n1:spare'"],
  ["stitch logs n1\\:sp", "<logs><n1:sp>", "stitch logs n1:spare"],
  [
    'stitch stop --reason "disk check" n1:sp',
    "<stop><--reason><disk check><n1:sp>",
    'stitch stop --reason "disk check" n1:spare',
  ],
  ["stitch stop --reason 'it\"s' n1:sp", '<stop><--reason><it"s><n1:sp>', "stitch stop --reason 'it\"s' n1:spare"],
  [
    "stitch stop --reason disk\\ check  n1:sp",
    "<stop><--reason><disk check><n1:sp>",
    "stitch stop --reason disk\\ check  n1:spare",
  ],
  ['stitch stop --reason "" n1:sp', "<stop><--reason><><n1:sp>", 'stitch stop --reason "" n1:spare'],
  ['stitch run a.b.1 -- cat "fd/a b', "<run><a.b.1><--><cat><fd/a b>", 'stitch run a.b.1 -- cat "fd/a b c"'],
  ["stitch run a.b.1 -- cat fd/a\\ b", "<run><a.b.1><--><cat><fd/a b>", "stitch run a.b.1 -- cat fd/a\\ b\\ c"],
  [
    "stitch run a.b.1 -- cat 'x y' fd/a",
    "<run><a.b.1><--><cat><x y><fd/a>",
    "stitch run a.b.1 -- cat 'x y' fd/a\\ b\\ c",
  ],
] as const;

/** Ctrl-G shows the line, and begins a new one. */
const ON_TERMINAL = {
  bash: {
    rc: ".bashrc",
    start: "bash --noprofile --rcfile .bashrc -i",
    show: `show() { printf 'line<%s>\\n' "$READLINE_LINE"; READLINE_LINE= READLINE_POINT=0; }
bind -x '"\\C-g": show'
PS1='ready> '`,
  },
  zsh: {
    rc: ".zshrc",
    start: "zsh -d -i",
    show: `show() { print -r -- "line<$BUFFER>"; BUFFER= }
zle -N show
bindkey '^G' show
PS1='ready> '`,
  },
} as const;

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "completion-"));
  await writeFile(join(dir, "stitch"), STITCH);
  await chmod(join(dir, "stitch"), 0o755);
  await mkdir(join(dir, "fd"));
  await writeFile(join(dir, "fd", "a b c"), "");
});
after(() => rm(dir, { recursive: true }));

const env = (more: Record<string, string> = {}) =>
  bareEnv({ PATH: `${dir}${delimiter}${process.env["PATH"] ?? ""}`, DIR: dir, HOME: dir, TERM: "xterm", ...more });
const asked = () => readFile(join(dir, "asked"), "utf8");
const isMissing = (shell: string) => spawnSync(shell, ["--version"]).error !== undefined;

for (const shell of ["bash", "zsh"] as const) {
  const skip = isMissing(shell)
    ? `there is no ${shell} here`
    : hasTerminals
      ? false
      : "there is no script of util-linux here, which provides a terminal";
  test(`${shell} completes a word with quotes, a colon or spaces, and leaves what was typed`, { skip }, async () => {
    const { rc, start, show } = ON_TERMINAL[shell];
    await writeFile(join(dir, rc), `${SCRIPTS[shell]}\n${show}\n`);
    const child = spawn("script", ["-q", "-e", "-c", `stty cols 200; exec ${start}`, "/dev/null"], {
      cwd: dir,
      env: env({ ZDOTDIR: dir, SHELL: "/bin/sh" }),
      stdio: ["pipe", "pipe", "ignore"],
      timeout: 60_000,
      killSignal: "SIGKILL",
    });
    const closed = once(child, "close");
    let screen = "";
    child.stdout.setEncoding("utf8").on("data", (shown: string) => {
      screen += shown;
    });
    try {
      await until("the prompt", () => screen.includes("ready> "));
      for (const [typed, words, line] of LINES) {
        screen = "";
        child.stdin.write(`${typed}\t\u0007`);
        const shown = await until(`the line after ${typed}`, () => /line<(.*)>/.exec(screen)?.[1]);
        assert.deepEqual([await asked(), shown.trimEnd()], [words, line], typed);
      }
    } finally {
      child.kill("SIGKILL");
      await closed;
    }
  });
}

test("fish completes a word with quotes, a colon or spaces", {
  skip: isMissing("fish") ? "there is no fish here" : false,
}, async () => {
  await writeFile(join(dir, "stitch.fish"), SCRIPTS.fish);
  for (const [typed, words, line] of LINES) {
    const child = spawn("fish", ["--no-config", "-c", "source stitch.fish; complete -C $LINE"], {
      cwd: dir,
      env: env({ LINE: typed }),
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 20_000,
    });
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    const suggested = line.endsWith("n1:spare") || /n1:spare["']$/.test(line) ? "n1:spare" : "fd/a b c";
    assert.deepEqual([stderr, await asked(), stdout.split(/[\t\n]/)[0]], ["", words, suggested], typed);
  }
});
