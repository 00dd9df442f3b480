import assert from "node:assert/strict";
import { test } from "node:test";
import { Hono } from "hono";
import { deadline } from "../../../src/api/deadline.ts";
import type { ApiEnv } from "../../../src/api/deps.ts";
import { problem } from "../../../src/api/problem.ts";

/** An API whose one route never answers, as when Redis hangs. `?allow=` asks for more time, as a route may. */
function hanging(shutdown: AbortSignal) {
  const app = new Hono<ApiEnv>();
  app.use(deadline(shutdown));
  app.onError((error, c) => problem(c, error));
  app.get("/", (c) => {
    const more = c.req.query("allow");
    if (more !== undefined) c.get("allowMs")(Number(more));
    return new Promise<Response>(() => undefined);
  });
  return app;
}

/** Resolves once pending work has gone as far as it can without a timer. */
const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

for (const { query, withinMs } of [
  { query: "", withinMs: 3000 },
  { query: "?waitMs=5000", withinMs: 8000 },
  { query: "?allow=7000", withinMs: 10_000 },
])
  test(`P3: answers within ${withinMs} ms if Redis hangs, but not before the wait ends (${query || "none"})`, async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const asked = hanging(new AbortController().signal).request(`/${query}`);
    let answer: Response | null = null;
    void Promise.resolve(asked).then((response) => {
      answer = response;
    });
    await settled();
    t.mock.timers.tick(withinMs - 3000);
    await settled();
    assert.equal(answer, null, "the wait that was asked for is the client's own");
    t.mock.timers.tick(3000);
    const { status, headers, code } = await read(await asked);
    assert.deepEqual([status, code], [503, "redis_unavailable"]);
    assert.ok(headers.get("Retry-After"));
  });

test("an API that shuts down answers pending requests within the time that its server has to close", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const shutdown = new AbortController();
  const asked = hanging(shutdown.signal).request("/?waitMs=60000");
  await settled();
  shutdown.abort();
  t.mock.timers.tick(2500);
  const { status, code } = await read(await asked);
  assert.deepEqual([status, code], [503, "shutting_down"]);
});

async function read(response: Response) {
  const { code } = (await response.json()) as { code: string };
  return { status: response.status, headers: response.headers, code };
}
