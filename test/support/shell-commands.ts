import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

/** Cuts a block into commands. An incomplete line continues with the next one. */
export function commandsOf(block: string): string[] {
  const commands: string[] = [];
  let command = "";
  for (const line of block.trimEnd().split("\n")) {
    command += command === "" ? line : `\n${line}`;
    if (spawnSync("sh", ["-n", "-c", command]).status !== 0) continue;
    commands.push(command);
    command = "";
  }
  assert.equal(command, "", "a command of the block has no end");
  return commands;
}
