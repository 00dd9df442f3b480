// A client that others generate from /openapi.json: its types are those of openapi-typescript with default settings.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { COMMANDS } from "../../../src/domain/commands/command.ts";

const root = join(import.meta.dirname, "../../..");
const LIMIT_MS = 120_000;
const run = promisify(execFile);

/** The required fields of each command, beside its name. */
const LEAST: Readonly<Record<keyof typeof COMMANDS, string>> = {
  "node.ping": `target: "n1"`,
  "node.cordon": `target: "n1"`,
  "node.uncordon": `target: "n1"`,
  "node.drain": `target: "n1"`,
  "node.relabel": `target: "n1", labels: { disk: "ssd", old: null }`,
  "stitch.create": `target: "a.b.1", spec: { adaptor: "process", command: ["sleep", "60"] }`,
  "stitch.start": `target: "n1:a"`,
  "stitch.stop": `target: "n1:a"`,
  "stitch.restart": `target: "n1:a"`,
  "stitch.remove": `target: "n1:a"`,
  "stitch.clone": `target: "n1:a"`,
  "stitch.move": `target: "n1:a"`,
  "group.start": `target: "a.b"`,
  "group.stop": `target: "a.b"`,
  "group.remove": `target: "a.b"`,
  "group.restart": `target: "a.b"`,
  "group.scale": `target: "a.b.1", count: 2`,
  "group.rebalance": `target: "a.b"`,
  "group.stopOldVersions": `target: "a.b.1"`,
};

let dir = "";

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "crossstitch-client-"));
  const generator = join(root, "node_modules/openapi-typescript/bin/cli.js");
  const api = join(root, "test/support/typescript-api.ts");
  const args = ["--import", api, generator, join(root, "src/api/openapi.json"), "--output", join(dir, "api.d.ts")];
  await run(process.execPath, args, { cwd: dir, timeout: LIMIT_MS });
});

after(() => rm(dir, { recursive: true, force: true }));

/** @returns the compiler's output for a program that uses the generated types. */
async function compile(program: string): Promise<string> {
  const file = join(dir, "use.ts");
  await writeFile(file, `import type { components, paths } from "./api.d.ts";\n${program}`);
  const tsc = join(root, "node_modules/.bin/tsc");
  const strict = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];
  const kind = ["--noEmit", "--target", "es2024", "--module", "esnext", "--moduleResolution", "bundler"];
  const compiled = run(tsc, [...strict, ...kind, file], { cwd: dir, timeout: LIMIT_MS });
  return compiled.then(
    ({ stdout }) => stdout,
    ({ stdout, message }: { stdout?: string; message: string }) => stdout ?? message,
  );
}

const BODY = `type Body = paths["/v1/commands"]["post"]["requestBody"]["content"]["application/json"];\n`;

test("a command compiles without the fields that have a default", async () => {
  const bodies = Object.entries(LEAST).map(([command, rest]) => `  { command: "${command}", ${rest} },\n`);
  const schemas = Object.entries(LEAST).map(
    ([command, rest], index) =>
      `export const c${index}: components["schemas"]["Command.${command}"] = { command: "${command}", ${rest} };\n`,
  );
  assert.equal(await compile(`${BODY}export const bodies: Body[] = [\n${bodies.join("")}];\n${schemas.join("")}`), "");
});

test("a message and a rollback compile without the fields that have a default", async () => {
  const program = `
type Message = paths["/v1/messages"]["post"]["requestBody"]["content"]["application/json"];
export const message: Message = { to: { stitch: "n1:a" }, data: "hello" };
type Rollback = paths["/v1/jobs/{job}/rollback"]["post"]["requestBody"];
export const rollback: NonNullable<Rollback>["content"]["application/json"] = {};
export const query: NonNullable<paths["/v1/nodes"]["get"]["parameters"]["query"]> = {};
`;
  assert.equal(await compile(program), "");
});

test("a wrong body does not compile", async () => {
  const program = `${BODY}
// @ts-expect-error there is no such command
export const unknown: Body = { command: "stitch.fly", target: "n1:a" };
// @ts-expect-error it has no target
export const targetless: Body = { command: "stitch.stop" };
// @ts-expect-error a time to wait is a number
export const text: Body = { command: "stitch.stop", target: "n1:a", timeoutMs: "30 s" };
`;
  assert.equal(await compile(program), "");
});

test("a field of an answer is optional only where the API may omit it, and its type lists the allowed values", async () => {
  const program = `
type Job = paths["/v1/jobs/{job}"]["get"]["responses"][200]["content"]["application/json"];
export const actions = (job: Job) => job.tasks.flatMap(({ steps }) => steps.map(({ action }) => action));
const action: ReturnType<typeof actions>[number][] = ["drain", "settle"];
export const places = (list: components["schemas"]["NodeList"]): string[] => list.items.flatMap(({ zones }) => zones);
export const grace = (stitch: components["schemas"]["Stitch"]): number => (stitch.spec?.stopGraceMs ?? 0) + action.length;
export const why = (problem: components["schemas"]["Problem"]): string => problem.code;
`;
  assert.equal(await compile(program), "");
});

test("the document names the base URL of its paths", async () => {
  const { servers } = JSON.parse(await readFile(join(root, "src/api/openapi.json"), "utf8")) as { servers: unknown };
  assert.deepEqual(servers, [{ url: "/" }]);
});
