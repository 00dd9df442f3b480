import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Escaped, EscapedProcesses } from "../../../workers/node/processes/escaped-processes.ts";

/** A machine without processes. `looks` has the pids that each look had to leave out. */
function looking(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const looks: number[][] = [];
  const escaped = new EscapedProcesses(
    "session",
    (error) => assert.fail(String(error)),
    (except) => {
      looks.push([...(except ?? [])]);
      return Promise.resolve([]);
    },
  );
  return { escaped, looks };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("one stitch that ends causes a look at once; stitches that end in the next moments share a look", async (t) => {
  const { escaped, looks } = looking(t);
  assert.deepEqual(await escaped.end("first"), { killed: [], refused: [] });
  assert.equal(looks.length, 1);
  const others: Promise<Escaped>[] = [];
  for (let n = 0; n < 100; n++) {
    others.push(escaped.end(`other-${n}`));
    await turn();
  }
  assert.equal(looks.length, 1);
  t.mock.timers.tick(50);
  await Promise.all(others);
  assert.equal(looks.length, 2);
});

test("leaves out the leaders of running stitches, and looks at them again when they have ended", async (t) => {
  const { escaped, looks } = looking(t);
  const ended = Promise.withResolvers<void>();
  escaped.leads(11, ended.promise);
  escaped.leads(12, new Promise(() => undefined));
  await escaped.end("a");
  ended.resolve();
  await turn();
  t.mock.timers.tick(50);
  await escaped.end("b");
  assert.deepEqual(looks, [[11, 12], [12]]);
});
