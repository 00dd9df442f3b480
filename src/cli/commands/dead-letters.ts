import type { Command } from "commander";
import type { DeadLetterResource } from "../../contract/message.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { formatAge } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { mustExist } from "./must-exist.ts";
import { parseLimit } from "../options/option-values.ts";
import { type Column, cut } from "../terminal/table.ts";

/** Enough to recognise a message; `--json` prints the whole data. */
const SHOWN_CHARACTERS = 40;

/** Narrow terminals cut the right end of a line, so the reason comes before columns that only tell letters apart. */
const COLUMNS: readonly Column[] = [
  { key: "id", title: "ID" },
  { key: "stitch", title: "STITCH" },
  { key: "age", title: "AGE", align: "right" },
  { key: "reason", title: "REASON" },
  { key: "tries", title: "TRIES", align: "right" },
  { key: "from", title: "FROM" },
  { key: "channel", title: "CHANNEL" },
  { key: "data", title: "DATA" },
];

type Flags = { readonly node?: string; readonly stitch?: string; readonly limit: number };

/** `stitch dead-letters`, `dead-letters redrive ID`, `dead-letters rm ID`. */
export function registerDeadLetters(program: Command): void {
  const letters = program
    .command("dead-letters")
    .description("list messages that could not be delivered, node by node, the oldest of each first")
    .option("--node <node>", "only those that this node could not deliver")
    .option("--stitch <stitch>", "only those for this stitch, by full or bare id")
    .option("--limit <n>", "how many to list", parseLimit, 20);
  addClientOptions(letters).action(
    clientAction(async (context, { node, stitch, limit }: Flags) => {
      const { client, output, signal } = context;
      const page = await client.deadLetters({ node, stitch, limit }, { signal });
      if (page.items.length === 0) await mustExist(context, { node, stitch });
      if (output.json) {
        output.body(page);
        return EXIT.done;
      }
      const rows = page.items.map((letter) => letterRow(letter, page.asOf));
      output.table(rows, COLUMNS, "No dead letters.");
      if (page.nextCursor !== null) output.note(`There may be more: --limit (now ${limit}), --node, --stitch.`);
      return EXIT.done;
    }),
  );

  // Not retried if no answer comes: the first call may have deleted the letter, and the second would then get `not_found`.
  const redrive = letters
    .command("redrive <id>")
    .description("send it again, to where its stitch lives now, and forget it; prints the stitch");
  addClientOptions(redrive).action(
    clientAction(async ({ client, output, signal }, id: string) => {
      const sent = await client.redriveDeadLetter(id, { signal });
      if (output.json) output.body(sent);
      else for (const { stitch } of sent.deliveries) output.print(stitch);
      return EXIT.done;
    }),
  );
  addClientOptions(letters.command("rm <id>").description("forget it")).action(
    clientAction(async ({ client, signal }, id: string) => {
      await client.deleteDeadLetter(id, { signal });
      return EXIT.done;
    }),
  );
}

function letterRow(letter: DeadLetterResource, asOf: string): Record<string, string> {
  const { id, stitch, from, channel, code, tries, at, data, reason } = letter;
  return {
    id,
    stitch,
    age: formatAge(Date.parse(asOf) - Date.parse(at)),
    reason: `${code}: ${reason}`,
    tries: String(tries),
    from,
    channel,
    data: cut(data, SHOWN_CHARACTERS),
  };
}
