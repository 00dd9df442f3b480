import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import type { MessageBody } from "../../client/client.ts";
import { MAX_DATA_BYTES } from "../../domain/message.ts";
import type { DeliveryResource } from "../../contract/message.ts";
import { addClientOptions, clientAction } from "../calls/client-action.ts";
import { parseDuration } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { namesGroup } from "../calls/names-group.ts";
import type { Output } from "../terminal/output.ts";
import { printableText } from "../../printable.ts";
import { underKey } from "../calls/under-key.ts";
import { UsageError } from "../terminal/usage-error.ts";

type Flags = {
  readonly group?: true;
  readonly channel?: string;
  readonly ack?: true;
  readonly reply?: true;
  /** Milliseconds. */
  readonly timeout?: number;
  readonly key?: string;
};

/** `stitch send TARGET [DATA|-]`. */
export function registerSend(program: Command): void {
  addClientOptions(
    program
      .command("send <stitch|group> [data]")
      .summary("send a message to a stitch or to every stitch of a group")
      .description(
        "send a message to a stitch, or to every stitch of a group. A dot means a group (shop.orders); a bare application " +
          "needs --group. The data is sent as the text it is; - reads it from stdin.",
      )
      .option("--group", "the name is a group")
      .option("--channel <channel>", "what the message is about, for the stitch to tell")
      .addOption(new Option("--ack", "wait until it is acknowledged").conflicts("reply"))
      .option(
        "--reply",
        "wait for the reply and print its data alone; of a group one stitch is asked, each in its turn",
      )
      .option("--timeout <duration>", "how long to wait for that, at most 1m (default: 5s)", parseDuration)
      .option("--key <key>", "idempotency key: the same key and message are sent once (default: a new one)"),
  ).action(
    clientAction(async (context, target: string, data: string | undefined, flags: Flags) => {
      const { client, output, signal } = context;
      const body = messageBody(target, data === "-" ? await readData() : (data ?? ""), flags);
      const key = flags.key ?? randomUUID();
      const sent = await underKey(context, key, "message", () => client.send(body, { idempotencyKey: key, signal }));
      if (output.json) output.body(sent);
      else if (body.expect === "reply") printReply(output, sent.deliveries);
      else printRows(output, sent.deliveries);
      return isDelivered(body, sent.deliveries) ? EXIT.done : EXIT.failed;
    }),
  );
}

function messageBody(target: string, data: string, flags: Flags): MessageBody {
  const { channel, timeout: timeoutMs } = flags;
  const expect = flags.reply === true ? "reply" : flags.ack === true ? "ack" : "none";
  if (expect === "none" && timeoutMs !== undefined)
    throw new UsageError("--timeout goes with --ack or --reply: without them nothing is waited for");
  const group = namesGroup(target, flags);
  const to = !group ? { stitch: target } : expect === "reply" ? { oneOf: target } : { group: target };
  return { to, channel, data, expect, timeoutMs };
}

/** Reads all of stdin, at most as much as a message may hold. */
async function readData(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    bytes += (chunk as Buffer).length;
    if (bytes > MAX_DATA_BYTES)
      throw new UsageError(`stdin has more than ${MAX_DATA_BYTES} bytes: too much for a message`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new UsageError("stdin is not UTF-8: the data of a message is text");
  }
}

/** A message to one stitch may follow a move of the stitch. Then there is one more row, and one good row is enough. */
function isDelivered({ to, expect }: MessageBody, rows: readonly DeliveryResource[]): boolean {
  const good = ({ status }: DeliveryResource): boolean =>
    status === "replied" || status === (expect === "none" ? "accepted" : expect === "ack" ? "acked" : "replied");
  return "group" in to ? rows.every(good) : rows.some(good);
}

function printReply(output: Output, rows: readonly DeliveryResource[]): void {
  const data = rows.find(({ status }) => status === "replied")?.data;
  // This is the answer to a repeated call, after the first answer was lost.
  if (data === undefined) output.note("It was sent before, and nobody waits for its reply any more.");
  else output.print(output.answersOnTerminal ? printableText(data) : data);
}

function printRows(output: Output, rows: readonly DeliveryResource[]): void {
  const columns = [
    { key: "stitch", title: "STITCH" },
    { key: "status", title: "STATUS" },
    ...(rows.some(({ code }) => code !== undefined) ? [{ key: "code", title: "CODE" }] : []),
    ...(rows.some(({ data }) => data !== undefined) ? [{ key: "data", title: "REPLY" }] : []),
  ];
  output.table(
    rows.map(({ stitch, status, code = "", data = "" }) => ({ stitch, status, code, data })),
    columns,
    "Nobody was sent to.",
  );
  if (rows.some(({ status }) => status === "failed")) output.note("What failed is kept: stitch dead-letters");
}
