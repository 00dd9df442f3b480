// Compares what README.md, docs/ and .github/ say with what exists: settings, commands and their options, links.
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { Command } from "commander";
import { createProgram } from "../../src/cli/program.ts";
import { settings } from "../../src/config.ts";

const root = join(import.meta.dirname, "../..");
const files = ["README.md", ".github/CONTRIBUTING.md", ...globSync("docs/**/*.md", { cwd: root }).sort()];
const read = (file: string): string => readFileSync(join(root, file), "utf8");

test("the README's table of settings is made from src/config.ts", () => {
  const table = /<!-- settings -->\n([^]*?)<!-- \/settings -->/.exec(read("README.md"))?.[1];
  assert.equal(unpadded(table ?? ""), unpadded(settingsTable()));
});

/** The table without the padding that the formatter adds. */
const unpadded = (table: string): string => table.trim().replace(/ +/g, " ").replace(/-{3,}/g, "---");

/** Each default is as one would write it in the environment, or empty if there is none. */
function settingsTable(): string {
  const rows = Object.entries(settings.shape).map(([name, schema]) => {
    assert.ok(schema.description, `${name} has no description`);
    const shown = asText(schema.parse(undefined));
    return [`\`${name}\``, shown === "" ? "" : `\`${shown}\``, schema.description.replaceAll("|", "\\|")];
  });
  const lines = [["Setting", "Default", "Meaning"], ["---", "---", "---"], ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function asText(value: unknown): string {
  if (value === undefined) return "";
  if (Array.isArray(value)) return value.join(",");
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null)
    return Object.entries(value)
      .map(([name, part]) => `${name}=${part}`)
      .join(",");
  return JSON.stringify(value);
}

test("every command shown in a code block exists, with its options", () => {
  const program = createProgram();
  const shown = files.flatMap((file) => stitchCommands(read(file)).map((line) => ({ file, line })));
  assert.ok(shown.length > 20, `only ${shown.length} commands were found`);
  for (const { file, line } of shown) {
    const [typed = ""] = line.split(/ -- | #/);
    let command: Command = program;
    const words = typed.split(/\s+/).filter((word) => word !== "");
    let own = words;
    for (const word of words) {
      const next = command.commands.find((each) => each.name() === word);
      if (next === undefined) break;
      command = next;
      own = own.slice(1);
    }
    assert.notEqual(command, program, `${file}: stitch ${line}`);
    // A word in place of a subcommand is an argument, or an option, that this command itself takes.
    const takes = own[0]?.startsWith("-") === false ? command.registeredArguments : command.options;
    assert.ok(command.commands.length === 0 || takes.length > 0, `${file}: stitch ${line}`);
    for (const flag of words.filter((word) => /^--?[a-z]/.test(word))) {
      const known = command.options.some(({ short, long }) => flag === short || flag === long);
      assert.ok(known, `${file}: stitch ${line}: there is no ${flag}`);
    }
  }
});

/** The text after `stitch` or the launcher, for each line of a shell or unit file block. */
function stitchCommands(markdown: string): string[] {
  const blocks = [...markdown.matchAll(/^```(?:sh|ini)\n([^]*?)^```$/gm)].map((match) => match[1] ?? "");
  return blocks
    .flatMap((block) => block.split("\n"))
    .flatMap((line) => /(?:^|\s|\/)stitch(?:\.mjs)? +(\S.*)$/.exec(line)?.[1] ?? []);
}

test("relative links lead to existing files and headings", () => {
  let links = 0;
  for (const file of files) {
    for (const [, target = ""] of read(file).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      links += 1;
      const [path = "", heading] = target.split("#");
      const to = path === "" ? file : join(dirname(file), path);
      assert.ok(existsSync(join(root, to)), `${file}: ${target}`);
      if (heading !== undefined) assert.ok(headingsOf(read(to)).includes(heading), `${file}: ${target}`);
    }
  }
  assert.ok(links > 10, `only ${links} links were found`);
});

/** Headings as links name them: in lower case, without punctuation, with `-` for spaces. */
function headingsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
