// Checks that imports point one way, as the design draws it: entries → api, workers → master → redis, queue → contract →
// domain.
//   node test/support/check-imports.ts [FOLDER]      prints each violation as file:line; exit code 1 if there is one
import { globSync, readFileSync } from "node:fs";
import { dirname, join, posix, relative, sep } from "node:path";

type Layer = { readonly name: string; readonly files: RegExp; readonly may: readonly string[] };

/** The first layer that matches a file is its layer. `may`: the layers it may import beside itself; `*`: all but tests. */
const LAYERS: readonly Layer[] = [
  {
    name: "entry",
    files: /^(src\/cli\/.*|src\/api\/(node|edge|lambda|fetch|platform|shared-api)\.ts|workers\/[^/]+\/main\.ts)$/,
    may: ["*"],
  },
  { name: "config", files: /^src\/config\.ts$/, may: ["redis-url", "api-address", "domain", "error-text"] },
  { name: "domain", files: /^src\/domain\//, may: [] },
  /** The shapes of the API's answers, in the domain's words. */
  { name: "contract", files: /^src\/contract\//, may: ["domain"] },
  { name: "redis", files: /^src\/redis\//, may: ["redis-url", "contract", "domain"] },
  { name: "queue", files: /^src\/queue\//, may: ["redis", "domain", "bounded-wait"] },
  /** Where the leader's lease may live beside Redis. */
  { name: "etcd", files: /^src\/etcd\//, may: ["redis", "domain"] },
  {
    name: "master",
    files: /^src\/master\//,
    may: ["redis", "queue", "etcd", "contract", "domain", "version", "bounded-wait"],
  },
  { name: "client", files: /^src\/client\//, may: ["contract", "domain", "api-address", "error-text", "bounded-wait"] },
  {
    name: "api",
    files: /^src\/api\//,
    may: [
      "master",
      "redis",
      "queue",
      "contract",
      "domain",
      "config",
      "own-master",
      "running-part",
      "printable",
      "error-text",
      "bounded-wait",
    ],
  },
  {
    name: "workers",
    files: /^workers\//,
    may: [
      "master",
      "redis",
      "queue",
      "domain",
      "config",
      "running-part",
      "ending-signals",
      "error-text",
      "bounded-wait",
    ],
  },
  /** The module of one's own Master. */
  { name: "own-master", files: /^src\/load-own-master\.ts$/, may: ["master", "error-text"] },
  { name: "version", files: /^src\/version\.ts$/, may: [] },
  /** Parses the URL of Redis, for the settings and for connections. */
  { name: "redis-url", files: /^src\/redis-url\.ts$/, may: [] },
  /** What the URL and the token of an API may be, for the settings and for the client. */
  { name: "api-address", files: /^src\/api-address\.ts$/, may: [] },
  /** Writes logs, and selects what of an error may be logged. */
  { name: "log", files: /^src\/(logger|error-log|log-output)\.ts$/, may: ["config", "error-text"] },
  /** The text and the code of an error. */
  { name: "error-text", files: /^src\/error-text\.ts$/, may: [] },
  /** Waits with a time limit. */
  { name: "bounded-wait", files: /^src\/bounded-wait\.ts$/, may: [] },
  /** Makes text safe to show on a terminal. */
  { name: "printable", files: /^src\/printable\.ts$/, may: [] },
  { name: "package", files: /^package\.json$/, may: [] },
  /** Where this package is. */
  { name: "package-folder", files: /^src\/package-folder\.ts$/, may: [] },
  /** The signals that ask a process to end. */
  { name: "ending-signals", files: /^src\/ending-signals\.mjs$/, may: [] },
  /** The type of what an entry has started. */
  { name: "running-part", files: /^src\/running-part\.ts$/, may: [] },
];
/**
 * Inside a layer: its folders and files at the top, and which of these each of them may import. The last one, "", is every
 * other file at the top. What is not listed here belongs to no folder.
 */
const FOLDERS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  "src/domain": {
    json: [],
    names: [],
    stitch: ["names", "json", ""],
    node: ["stitch"],
    placement: ["node", "stitch"],
    job: ["node", "stitch", "names", ""],
    planning: ["job", "placement", "node", "stitch", "names", ""],
    commands: ["planning", "job", "placement", "node", "stitch", "names", "json", ""],
    "": ["names", "json"],
  },
  "src/redis": {
    connection: [],
    stitch: ["connection", ""],
    node: ["stitch", "connection", ""],
    job: ["node", "connection", ""],
    inbox: ["connection", ""],
    "": ["connection"],
  },
  "src/master": {
    "ports.ts": [],
    state: ["ports.ts"],
    routing: ["state", "ports.ts"],
    nodes: [],
    jobs: ["nodes", "state", "ports.ts"],
    commands: ["jobs", "state", "ports.ts"],
    leader: ["commands", "jobs", "state", "ports.ts"],
    "": ["*"],
  },
  "src/cli": {
    terminal: [],
    calls: ["terminal"],
    processes: ["terminal"],
    options: ["calls", "terminal"],
    follow: ["calls", "terminal"],
    completion: [],
    commands: ["completion", "options", "follow", "calls", "processes", "terminal"],
    up: ["commands", "processes", "terminal"],
    "": ["*"],
  },
  "workers/node": {
    files: [],
    processes: [],
    sending: [],
    logs: ["files"],
    protocol: ["sending"],
    adaptors: ["protocol", "sending", "processes", "logs"],
    stitches: ["protocol", "processes", "logs", "files"],
    membership: ["stitches", "processes", "files"],
    messages: ["stitches", "protocol", "sending", "logs"],
    tasks: ["stitches"],
    "": ["*"],
  },
};

/** What a layer may import from npm and from Node, if that is limited. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = { domain: ["zod"], contract: ["zod"], client: ["zod"] };
/** What a layer may import as types only: a program that imports the client must not load zod with it. */
const TYPES_ONLY: Readonly<Record<string, readonly string[]>> = { client: ["contract", "domain", "zod"] };
const ENDINGS = [".ts", ".mjs", ".json"];

type Violation = { readonly file: string; readonly line: number; readonly message: string };

type Import = { readonly line: number; readonly from: string; readonly typesOnly: boolean };

/** Every violation under `root`, by file and line. */
export function checkImports(root: string): Violation[] {
  const paths = globSync("{src,workers,test,infra}/**/*.ts", { cwd: root, exclude: ["**/node_modules/**"] });
  const files = new Map<string, Import[]>();
  for (const path of paths) {
    files.set(path.split(sep).join("/"), importsOf(readFileSync(join(root, path), "utf8")));
  }
  const found = [...files].flatMap(([file, imports]) => [
    ...imports.flatMap((one) => check(file, one).map((message) => ({ file, line: one.line, message }))),
    ...(isLayered(file) && layerOf(file) === null ? [{ file, line: 1, message: "belongs to no layer (LAYERS)" }] : []),
  ]);
  return [...found, ...cycles(files)].sort((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1));
}

/** Import statements begin a line (the formatter ensures that); `import("…")` may be anywhere but in a comment. */
const STATEMENT = /^(?:import|export)\s(?:[^;"'`=]*?\sfrom\s+)?["']([^"']+)["']/gm;
const EXPRESSION = /^(?!\s*(?:\/\/|\/?\*)).*?\bimport\(\s*["']([^"']+)["']/gm;

export function importsOf(source: string): Import[] {
  return [STATEMENT, EXPRESSION].flatMap((pattern) =>
    [...source.matchAll(pattern)].map((match) => ({
      from: match[1] ?? "",
      typesOnly: /^(?:import|export) type\b/.test(match[0]),
      line: source.slice(0, match.index).split("\n").length,
    })),
  );
}

function check(file: string, { from, typesOnly }: Import): string[] {
  const layer = isLayered(file) ? layerOf(file) : null;
  const forbidden = typesOnly || layer === null ? [] : (TYPES_ONLY[layer.name] ?? []);
  const needsType = (target: string): string[] =>
    forbidden.includes(target) ? [`${layer?.name} may import ${target} as types only (${from})`] : [];
  if (!from.startsWith(".")) {
    const allowed = layer === null ? undefined : PACKAGES[layer.name];
    return allowed === undefined || allowed.includes(from)
      ? needsType(from)
      : [`${layer?.name} may not import ${from}`];
  }
  const messages = ENDINGS.some((ending) => from.endsWith(ending))
    ? []
    : [`${from} has no ending ${ENDINGS.join(", ")}`];
  const target = layerOf(resolved(file, from));
  if (layer === null) return messages;
  if (target === null) return [...messages, `${layer.name} may not import ${from}: it belongs to no layer`];
  const allowed = target === layer || layer.may.includes("*") || layer.may.includes(target.name);
  if (!allowed) return [...messages, `${layer.name} may not import ${target.name} (${from})`];
  return [...messages, ...needsType(target.name), ...checkFolders(file, resolved(file, from))];
}

function checkFolders(file: string, target: string): string[] {
  const area = Object.keys(FOLDERS).find((each) => [file, target].every((path) => path.startsWith(`${each}/`)));
  if (area === undefined) return [];
  const folders = FOLDERS[area] ?? {};
  const partOf = (path: string): string => {
    const [first = "", ...rest] = path.slice(area.length + 1).split("/");
    return rest.length > 0 || Object.hasOwn(folders, first) ? first : "";
  };
  const [own, other] = [partOf(file), partOf(target)];
  const unknown = [own, other].filter((part) => !Object.hasOwn(folders, part));
  if (unknown.length > 0) return unknown.map((part) => `${area}/${part} is none of its folders (FOLDERS)`);
  const may = folders[own] ?? [];
  if (own === other || may.includes(other) || may.includes("*")) return [];
  return [`${area}/${own} may not import ${area}/${other}`];
}

const isLayered = (file: string): boolean => /^(src|workers)\//.test(file);
const layerOf = (file: string): Layer | null => LAYERS.find(({ files }) => files.test(file)) ?? null;
export const resolved = (file: string, from: string): string => posix.normalize(posix.join(posix.dirname(file), from));

/** One violation for each import that closes a cycle, types included: files that need each other belong together. */
function cycles(files: ReadonlyMap<string, readonly Import[]>): Violation[] {
  const found: Violation[] = [];
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    done.add(file);
    for (const { from, line } of files.get(file) ?? []) {
      if (!from.startsWith(".")) continue;
      const target = resolved(file, from);
      const here = [...trail, file];
      if (here.includes(target)) {
        const circle = [...here.slice(here.indexOf(target)), target].join(" → ");
        found.push({ file, line, message: `import cycle: ${circle}` });
      } else if (!done.has(target)) visit(target, here);
    }
  };
  for (const file of files.keys()) if (!done.has(file)) visit(file, []);
  return found;
}

if (import.meta.main) {
  const root = process.argv[2] ?? dirname(dirname(import.meta.dirname));
  const violations = checkImports(root);
  for (const { file, line, message } of violations) {
    process.stdout.write(`${relative(process.cwd(), join(root, file))}:${line} ${message}\n`);
  }
  process.exitCode = violations.length === 0 ? 0 : 1;
}
