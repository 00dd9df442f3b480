import { parseFullGroup } from "../../../src/domain/names/group.ts";
import type { ProcessSpec } from "../../../src/domain/stitch/spec.ts";
import type { StartContext } from "../protocol/adaptor.ts";

/** The variables that a stitch gets from the worker's environment. It gets no others, so that it gets no secret of the node. */
const INHERITED = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

export function environment(context: StartContext, spec: ProcessSpec): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of INHERITED) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return {
    ...env,
    ...spec.env,
    STITCH_NODE_ID: context.node,
    STITCH_ID: context.id,
    STITCH_GROUP: context.group,
    STITCH_DATA_DIR: context.dataDir,
    STITCH_SESSION: context.session,
  };
}

/**
 * The arguments with ProcessV1 (process-v1.md, "Arguments"): the command, the node's facts, `--`, and the custom arguments.
 * The custom arguments are those after a `--` in the command.
 */
export function processV1Command({ node, id, group, dataDir }: StartContext, command: readonly string[]): string[] {
  const parts = parseFullGroup(group);
  const facts: Record<string, string> = {
    coreid: node,
    corepid: String(process.pid),
    instanceid: id,
    application: parts?.application ?? "",
    component: parts?.component ?? "",
    version: parts?.version ?? "",
    groupname: group,
    datadir: dataDir,
    channel: "Stdio",
    serializer: "Json",
  };
  const dashes = command.indexOf("--");
  return [
    ...(dashes === -1 ? command : command.slice(0, dashes)),
    ...Object.entries(facts).flatMap(([key, value]) => (value === "" ? [] : [`${key}=${value}`])),
    "--",
    ...(dashes === -1 ? [] : command.slice(dashes + 1)),
  ];
}
