import { Argument, type Command } from "commander";
import type { ClusterResource } from "../../contract/cluster.ts";
import { LEASE_IN_REDIS, MASTER_MODES, type MasterMode, settingOf } from "../../domain/master-mode.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { withRetries } from "../../client/retry.ts";
import { formatAge } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { UsageError } from "../terminal/usage-error.ts";
import type { Column } from "../terminal/table.ts";

const COLUMNS: readonly Column[] = [
  { key: "id", title: "MASTER" },
  { key: "version", title: "VERSION" },
  { key: "seen", title: "LAST SEEN", align: "right" },
  { key: "decides", title: "DECIDES" },
];

/** `stitch masters`, `masters set-mode MODE`. */
export function registerMasters(program: Command): void {
  const masters = program.command("masters").description("list the Masters that are alive, and the mode they run in");
  addClientOptions(masters).action(
    clientAction(async ({ client, output, signal }) => {
      const cluster = await client.cluster({ signal });
      const { mode, preferred, leader, election, lease } = cluster;
      if (output.json) output.body({ mode, preferred, leader, election, lease, items: cluster.masters });
      else {
        output.table(rows(cluster), COLUMNS, "No Masters: nothing is decided in the background.");
        output.note(`Mode: ${modeText(cluster)}.`);
      }
      return EXIT.done;
    }),
  );

  const setMode = masters
    .command("set-mode")
    .addArgument(new Argument("<mode>", "the new mode").choices(MASTER_MODES))
    .option("--preferred <master>", "with preferred: the id of the Master that decides while it is alive")
    .option("--lease <place>", "with leader: where the leader's lease lives: redis, or etcd+http://host:port,…")
    .description("change the mode of the cluster's Masters; processes set to another mode decide no more");
  addClientOptions(setMode).action(
    clientAction(
      async (
        { client, output, signal },
        mode: MasterMode,
        flags: { readonly preferred?: string; readonly lease?: string },
      ) => {
        const { preferred = null, lease = mode === "leader" ? LEASE_IN_REDIS : null } = flags;
        if (mode !== "leader" && lease !== null)
          throw new UsageError("--lease PLACE goes with the mode leader, and only with it.");
        if ((mode === "preferred") !== (preferred !== null))
          throw new UsageError("--preferred MASTER goes with the mode preferred, and only with it.");
        // Repeated without harm: the second call changes nothing.
        const changed = await withRetries(() => client.changeMode({ mode, preferred, lease }, { signal }), signal);
        if (output.json) output.body(changed);
        else
          output.note(
            `The mode is ${mode} now (before: ${changed.before ?? "none"}). Every API, Master and node with another setting ` +
              `refuses commands until it is started again with ${settingOf({ mode, preferred, lease })}.`,
          );
        return EXIT.done;
      },
    ),
  );
}

/** `preferred: m1, which is not alive, so any Master decides`; `leader: m1 (election 1764000000000.3, lease in redis)`. */
export function modeText({ mode, preferred, masters, leader, election, lease }: ClusterResource): string {
  if (mode === "leader")
    return leader === null || election === null
      ? `leader: none at the moment, so nothing is decided (lease in ${lease ?? "no place yet"})`
      : `leader: ${leader} (election ${election.epoch}.${election.n}, lease in ${lease ?? "no place yet"})`;
  if (preferred === null) return mode;
  const isAlive = masters.some(({ id }) => id === preferred);
  return `${mode}: ${preferred}${isAlive ? "" : ", which is not alive, so any Master decides"}`;
}

function rows({ masters, mode, preferred, leader, asOf }: ClusterResource): Record<string, string>[] {
  const isPreferredAlive = masters.some(({ id }) => id === preferred);
  const decides = (id: string) =>
    mode === "leader" ? id === leader : mode !== "preferred" || !isPreferredAlive || id === preferred;
  return masters.map(({ id, version, lastSeenAt }) => ({
    id,
    version,
    seen: `${formatAge(Date.parse(asOf) - Date.parse(lastSeenAt))} ago`,
    decides: decides(id) ? "yes" : "no",
  }));
}
