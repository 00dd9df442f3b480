import type { Command } from "commander";
import { ConfigError } from "../../config.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { endWith } from "../terminal/end-with.ts";
import { runUnderInit } from "./init.ts";
import { collectList } from "../options/option-values.ts";
import { refuseOtherPlatform } from "../processes/platform.ts";
import { runPart, type Start } from "../processes/process-command.ts";
import { UsageError } from "../terminal/usage-error.ts";

/** A flag and the setting that it overrides. `list`: may be repeated. */
type Flag = { readonly flags: string; readonly setting: string; readonly text: string; readonly list?: true };

const REDIS: Flag = { flags: "--redis-url <url>", setting: "REDIS_URL", text: "the Redis of the cluster" };
const CLUSTER: Flag = { flags: "--cluster <name>", setting: "STITCH_CLUSTER", text: "name of the cluster" };
const LOG: Flag = { flags: "--log-level <level>", setting: "STITCH_LOG_LEVEL", text: "what is logged, on stderr" };
const STATE: Flag = { flags: "--state-dir <folder>", setting: "STITCH_STATE_DIR", text: "what it keeps on disk" };
const HOST: Flag = { flags: "--host <host>", setting: "STITCH_HOST", text: "address to listen on" };
const PORT: Flag = { flags: "--port <port>", setting: "STITCH_PORT", text: "port to listen on" };
const ID: Flag = {
  flags: "--id <node>",
  setting: "STITCH_NODE_ID",
  text: "id of this node (default: the one it had before, at first the host's name)",
};
const ZONE: Flag = { flags: "--zone <zone>", setting: "STITCH_ZONES", text: "a zone of this node", list: true };
const LABEL: Flag = {
  flags: "--label <name=value>",
  setting: "STITCH_LABELS",
  text: "a label of this node",
  list: true,
};

type Part = {
  readonly name: string;
  readonly description: string;
  readonly flags: readonly Flag[];
  /** The command that the user probably meant by a word after this one. */
  readonly meant: (word: string) => string;
  readonly load: () => Promise<Start>;
};

const PARTS: readonly Part[] = [
  {
    name: "api",
    description: "run the HTTP API in this process",
    flags: [HOST, PORT, REDIS, CLUSTER, LOG],
    meant: () => "stitch status",
    load: async () => (await import("../../api/node.ts")).startApi,
  },
  {
    name: "node",
    description: "run a node worker in this process: this machine's stitches",
    flags: [ID, ZONE, LABEL, STATE, REDIS, CLUSTER, LOG],
    meant: (word) => `stitch nodes ${word}`,
    load: async () => (await import("../../../workers/node/main.ts")).startNode,
  },
  {
    name: "master",
    description: "run a master worker in this process",
    flags: [STATE, REDIS, CLUSTER, LOG],
    meant: () => "stitch status",
    load: async () => (await import("../../../workers/master/main.ts")).startMaster,
  },
];

/** `stitch api`, `stitch node`, `stitch master`: one part of the cluster, as this process. */
export function registerPartCommands(program: Command): void {
  for (const part of PARTS) {
    const command = program.command(part.name).description(part.description).allowExcessArguments();
    for (const { flags, setting, text, list } of part.flags) {
      if (list === true) command.option(flags, `${text} (${setting}); may be repeated`, collectList);
      else command.option(flags, `${text} (${setting})`);
    }
    command.action(async () => {
      try {
        const [word] = command.args;
        if (word !== undefined) {
          throw new UsageError(`stitch ${part.name} takes no arguments; did you mean ${part.meant(word)}?`);
        }
        if (part.name === "node") refuseOtherPlatform("stitch node");
        runUnderInit();
        endWith(await runPart(part.load, withFlags(process.env, part.flags, command)));
      } catch (error) {
        if (!(error instanceof ConfigError || error instanceof UsageError)) throw error;
        process.stderr.write(`${error.message}\n`);
        endWith(EXIT.error);
      }
    });
  }
}

type Env = Readonly<Record<string, string | undefined>>;

/** The environment with the given flags: a flag overrides the environment. */
function withFlags(env: Env, flags: readonly Flag[], command: Command): Env {
  const over: Record<string, string> = {};
  for (const option of command.options) {
    const flag = flags.find((candidate) => candidate.flags === option.flags);
    const value = command.getOptionValue(option.attributeName()) as string | readonly string[] | undefined;
    if (flag !== undefined && value !== undefined) over[flag.setting] = [value].flat().join(",");
  }
  return { ...env, ...over };
}
