import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { LogOutput } from "../../src/log-output.ts";
import { until } from "../support/cluster.ts";

/** An output that takes `room` bytes, and then fails with `code`. */
function limited(mostWaitingBytes?: number) {
  const state = { room: Number.POSITIVE_INFINITY, code: "ENOSPC", written: "" };
  const output = new LogOutput({
    write: (bytes) => {
      const count = Math.min(bytes.length, state.room);
      if (count === 0 && bytes.length > 0) throw Object.assign(new Error(state.code), { code: state.code });
      state.room -= count;
      state.written += Buffer.from(bytes.subarray(0, count)).toString();
      return count;
    },
    lossLine: (lost, code) => `lost ${lost} ${code}\n`,
    ...(mostWaitingBytes === undefined ? {} : { mostWaitingBytes }),
  });
  return { output, state };
}

for (const code of ["ENOSPC", "EPIPE", "EIO", "EBADF"])
  test(`lines lost to ${code} are counted, and the next line that is written reports how many`, () => {
    const { output, state } = limited();
    output.write("one\n");
    Object.assign(state, { room: 0, code });
    for (const line of ["two\n", "three\n"]) output.write(line);
    assert.equal(output.lostEver, 2);
    state.room = Number.POSITIVE_INFINITY;
    for (const line of ["four\n", "five\n"]) output.write(line);
    assert.equal(state.written, `one\nlost 2 ${code}\nfour\nfive\n`);
    assert.equal(output.lostEver, 2);
  });

test("the rest of a line that breaks off is lost, and the next one starts on a new line", () => {
  const { output, state } = limited();
  state.room = 2;
  output.write("one\n");
  state.room = Number.POSITIVE_INFINITY;
  output.write("two\n");
  assert.equal(state.written, "on\nlost 1 ENOSPC\ntwo\n");
});

test("lines wait for a slow reader, and continue where they stopped", async () => {
  const { output, state } = limited();
  Object.assign(state, { room: 2, code: "EAGAIN" });
  for (const line of ["one\n", "two\n"]) output.write(line);
  assert.deepEqual([state.written, output.lostEver], ["on", 0]);
  state.room = Number.POSITIVE_INFINITY;
  await until("it has tried again", () => state.written === "one\ntwo\n");
});

test("lines over the waiting limit are lost, and the loss is reported in their place", () => {
  const { output, state } = limited(8);
  Object.assign(state, { room: 0, code: "EAGAIN" });
  for (const line of ["one\n", "two\n", "three\n", "four\n"]) output.write(line);
  assert.equal(output.lostEver, 2);
  state.room = Number.POSITIVE_INFINITY;
  output.flush();
  output.write("five\n");
  assert.equal(state.written, "one\ntwo\nlost 2 EAGAIN\nfive\n");
});

test("property: every line is written whole or counted as lost", () => {
  const act = fc.oneof(
    fc.record({ lines: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ room: fc.integer({ min: 0, max: 40 }), code: fc.constantFrom("ENOSPC", "EAGAIN", "EPIPE") }),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
      const { output, state } = limited(64);
      let made = 0;
      for (const one of acts)
        if ("lines" in one) for (let n = 0; n < one.lines; n++) output.write(`line ${(made += 1)};\n`);
        else Object.assign(state, one);
      state.room = Number.POSITIVE_INFINITY;
      output.flush();
      output.write("end;\n");
      const lines = state.written.split("\n");
      const whole = lines.filter((line) => /^line \d+;$/.test(line)).length;
      const told = lines.reduce((sum, line) => sum + Number(/^lost (\d+)/.exec(line)?.[1] ?? 0), 0);
      // A line without its line end looks whole, but counts as lost.
      assert.ok(whole + output.lostEver >= made);
      assert.ok(told >= output.lostEver, "a notice that is lost itself is told again");
      assert.ok(lines.includes("end;"));
    }),
  );
});

const LOGGER = new URL("../../src/logger.ts", import.meta.url).href;
/** Logs a line for each line of its input, prints to stdout how many are lost, and ends when its input ends. */
const LOGS = `
import { createInterface } from "node:readline";
import { createLogger, lostLogLines } from ${JSON.stringify(LOGGER)};
const log = createLogger({ logLevel: "info" }, "test");
for await (const line of createInterface({ input: process.stdin })) {
  log.info(line.padEnd(Number(process.argv[1]), "."));
  console.log(line + " " + lostLogLines());
}`;

function logging(stderr: number | "pipe", chars = 0) {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", LOGS, String(chars)], {
    stdio: ["pipe", "pipe", stderr],
  });
  let said = "";
  child.stdout?.on("data", (text: Buffer) => (said += text.toString()));
  const log = async (line: string): Promise<number> => {
    child.stdin?.write(`${line}\n`);
    const found = await until(`${line} is dealt with`, () => {
      assert.equal(child.exitCode, null, "it lives");
      return new RegExp(`^${line} (\\d+)$`, "m").exec(said);
    });
    return Number(found[1]);
  };
  after(() => child.kill("SIGKILL"));
  const end = async () => {
    child.stdin?.end();
    await once(child, "exit");
    return child.exitCode;
  };
  return { child, log, end };
}

test("a process whose stderr is a full disk goes on logging", { skip: process.platform !== "linux" }, async () => {
  const full = openSync("/dev/full", "w");
  const { log, end } = logging(full);
  closeSync(full);
  assert.deepEqual([await log("one"), await log("two"), await end()], [1, 2, 0]);
});

test("a process whose reader has closed goes on logging", async () => {
  const { child, log, end } = logging("pipe");
  assert.equal(await log("one"), 0);
  child.stderr?.destroy();
  await until("that is noticed", async () => (await log(`line-${performance.now()}`)) > 0);
  assert.equal(await end(), 0);
});

test("a process whose stderr does not wait for a slow reader goes on logging and reports lost lines", {
  skip: process.platform !== "linux",
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-log-output-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const fifo = join(dir, "fifo");
  await once(spawn("mkfifo", [fifo]), "exit");
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
  const { log, end } = logging(writer, 50_000);
  closeSync(writer);
  t.after(() => closeSync(reader));
  let sent = 0;
  while ((await log(`line-${sent}`)) === 0) assert.ok((sent += 1) < 100, "the pipe and what may wait are bounded");
  let text = "";
  const read = () => {
    const buffer = Buffer.alloc(65_536);
    try {
      text += buffer.toString("utf8", 0, readSync(reader, buffer));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
    }
  };
  await until("all that waited has come", () => {
    read();
    return text.includes(`"line-${sent - 1}.`);
  });
  await log("last");
  await until("the last has come, behind a line on those that are lost", () => {
    read();
    return text.includes('"msg":"last.') && text.endsWith("\n");
  });
  assert.equal(await end(), 0);
  const lines = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { msg: string; lost?: number; code?: string });
  const notice = lines.find(({ lost }) => lost !== undefined);
  assert.equal(notice?.code, "EAGAIN");
  assert.ok(lines.indexOf(notice) < lines.findIndex(({ msg }) => msg.startsWith("last.")));
});
