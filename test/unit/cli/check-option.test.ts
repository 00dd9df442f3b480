import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "commander";
import { parseCheck } from "../../../src/cli/options/check-option.ts";

for (const [text, check] of [
  ["http:8080/health", { http: { port: 8080, path: "/health" } }],
  ["http:8080/a?b=/c:d", { http: { port: 8080, path: "/a?b=/c:d" } }],
  ["http:8080", { http: { port: 8080, path: "/" } }],
  ["tcp:5432", { tcp: { port: 5432 } }],
  ["exec:pg_isready  -q ", { exec: ["pg_isready", "-q"] }],
] as const)
  test(`reads the check ${text}`, () => assert.deepEqual(parseCheck(text), check));

for (const [text, says] of [
  ["8080", /^It is http:PORT\/PATH, tcp:PORT or exec:"COMMAND ARG…", such as http:8080\/health\.$/],
  ["https:8443/", /^It is http:PORT\/PATH/],
  ["http://127.0.0.1:8080/health", /The node looks at itself, 127\.0\.0\.1; a port is 1 to 65535/],
  ["http:health", /a port is 1 to 65535/],
  ["http:8080health", /a port is 1 to 65535/],
  ["tcp:0", /a port is 1 to 65535/],
  ["tcp:65536", /a port is 1 to 65535/],
  ["tcp:localhost:80", /a port is 1 to 65535/],
  ["exec:", /^It is http:PORT/],
  ['exec:sh -c "test -e x"', /no quotes are understood\. Give such a command in a spec \(--spec FILE\)/],
] as const)
  test(`refuses the check ${text} and says how it is written`, () => {
    assert.throws(
      () => parseCheck(text),
      (error) => error instanceof InvalidArgumentError && says.test(error.message),
    );
  });
