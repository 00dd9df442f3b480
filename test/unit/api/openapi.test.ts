import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { buildOpenApi, ROUTES } from "../../../infra/openapi.ts";
import { createApp } from "../../../src/api/app.ts";

const file = join(import.meta.dirname, "../../../src/api/openapi.json");

test("openapi.json is what infra/openapi.ts builds", async () => {
  const built: unknown = JSON.parse(JSON.stringify(buildOpenApi()));
  assert.deepEqual(
    JSON.parse(await readFile(file, "utf8")),
    built,
    "out of date; type: node infra/openapi.ts > src/api/openapi.json",
  );
});

test("openapi.json covers exactly the app's routes", () => {
  const app = createApp({
    open: () => Promise.reject(new Error("not asked")),
    limits: null,
    access: { kind: "loopback" },
    metrics: { render: () => Promise.resolve({ contentType: "text/plain", text: "" }) },
    nowMs: () => 0,
    onError: () => undefined,
    shutdown: new AbortController().signal,
  });
  const routes = app.routes.filter(({ method }) => method !== "ALL").map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(Object.keys(ROUTES).sort(), routes.sort());
});

test("every $ref in openapi.json points to a definition", () => {
  const document = buildOpenApi();
  for (const [, ref = ""] of JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)) {
    let at: unknown = document;
    for (const part of ref.slice(2).split("/")) at = (at as Record<string, unknown>)[part];
    assert.notEqual(at, undefined, ref);
  }
});
