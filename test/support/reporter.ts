// What `npm test` prints: a line for each test file when it ends, its failed tests then and once more at the end, the
// skipped tests with their reasons, and the sums. Figures and output of a file are shown only if it failed.
import { basename, isAbsolute, relative } from "node:path";
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

/** How many of the last characters that a failed file has printed are shown. */
const MOST_OUTPUT = 50_000;

type Failure = { readonly at: string; readonly path: readonly string[]; readonly error: string };
type FileReport = {
  readonly failures: Failure[];
  readonly diagnostics: string[];
  output: string;
  /** By test id: the titles of the tests that have begun, for the path to a test. */
  readonly titles: Map<number, { readonly title: string; readonly parent: number }>;
  /** The results of its tests are in. One for the file itself may follow, for example if it ended with a code of its own. */
  isCounted: boolean;
  /** The process of the file has ended. */
  isOver: boolean;
  /** How many of its failures have been shown. */
  shown: number;
};

/** The fields of an event that are read here; `testId`, `parentId` and `entryFile` are newer than the types. */
type Data = {
  readonly name?: string;
  readonly nesting?: number;
  readonly message?: string;
  readonly file?: string;
  readonly entryFile?: string;
  readonly line?: number;
  readonly testId?: number;
  readonly parentId?: number;
  readonly skip?: string | boolean;
  readonly todo?: string | boolean;
  readonly details?: { readonly duration_ms?: number; readonly error?: unknown };
  readonly counts?: Readonly<Record<string, number>>;
  readonly duration_ms?: number;
};

const newReport = (): FileReport => ({
  failures: [],
  diagnostics: [],
  output: "",
  titles: new Map(),
  isCounted: false,
  isOver: false,
  shown: 0,
});

/** A reporter for node:test (`--test-reporter`). */
export default async function* reporter(source: AsyncIterable<TestEvent>): AsyncGenerator<string, void> {
  const reports = new Map<string, FileReport>();
  const skipped: string[] = [];
  let sums = "";

  const reportOn = (file: string): FileReport => {
    const report = reports.get(file) ?? newReport();
    reports.set(file, report);
    return report;
  };
  for await (const event of source) {
    const data = event.data as Data | undefined;
    const file = data?.entryFile ?? data?.file;
    if (data === undefined) continue;
    if (event.type === "test:interrupted") {
      // The runner exits before it asks for more output than this.
      const names = event.data.tests.map((one) => shown(one.file ?? one.name));
      yield `${endOf(reports)}\ninterrupted while running: ${names.join(", ")}\n`;
      continue;
    }
    if (file === undefined) {
      if (event.type === "test:summary") sums = sumsOf(data);
      continue;
    }
    const report = reportOn(file);
    const isOfFile = data.entryFile === undefined;
    switch (event.type) {
      case "test:start":
        report.titles.set(data.testId ?? 0, { title: data.name ?? "", parent: data.parentId ?? 0 });
        break;
      case "test:pass":
      case "test:fail": {
        if (isOfFile) report.isCounted = true;
        if (data.skip !== undefined && data.skip !== false)
          skipped.push(`﹣ ${shown(file)}: ${pathOf(report, data).join(" › ")}: ${reasonOf(data.skip)}\n`);
        if (event.type === "test:fail" && data.todo === undefined && failureType(data) !== "subtestsFailed")
          report.failures.push(failureOf(report, data));
        break;
      }
      case "test:diagnostic":
        report.diagnostics.push(data.message ?? "");
        break;
      case "test:stdout":
      case "test:stderr":
        report.output = (report.output + (data.message ?? "")).slice(-MOST_OUTPUT);
        break;
      case "test:complete":
        if (!isOfFile) break;
        // This event comes at once. The results of files that run at the same time come file by file.
        yield lineOf(file, data);
        report.isOver = true;
        break;
      case "test:summary":
        report.isCounted = true;
        break;
      default:
    }
    if (report.isCounted && report.isOver && report.failures.length > report.shown) {
      report.shown = report.failures.length;
      yield failuresOf(file, report);
    }
  }
  yield endOf(reports);
  if (skipped.length > 0) yield `\nskipped:\n${skipped.join("")}`;
  yield `\n${sums}`;
}

/** Every failure again, because those that were printed first have scrolled away. */
function endOf(reports: ReadonlyMap<string, FileReport>): string {
  const failed = [...reports].filter(([, { failures }]) => failures.length > 0);
  return failed.length === 0 ? "" : `\nfailed:\n${failed.map(([file, report]) => failuresOf(file, report)).join("")}`;
}

const shown = (file: string): string => {
  const path = isAbsolute(file) ? relative(process.cwd(), file) : file;
  return path.startsWith("..") ? basename(file) : path;
};

const reasonOf = (skip: string | boolean): string => (typeof skip === "string" && skip !== "" ? skip : "no reason");

const lineOf = (file: string, data: Data): string =>
  `${failureType(data) === null ? "✔" : "✖"} ${shown(file)}  ${seconds(data.details?.duration_ms)}\n`;

const seconds = (ms = 0): string => `${(ms / 1000).toFixed(1)} s`;

function failuresOf(file: string, { failures, diagnostics, output }: FileReport): string {
  if (failures.length === 0) return "";
  const parts = failures.map(({ at, path, error }) => `✖ ${at}: ${path.join(" › ")}\n${indented(error)}`);
  if (diagnostics.length > 0) parts.push(`its figures:\n${indented(diagnostics.join("\n"))}`);
  if (output.trim() !== "") parts.push(`its output:\n${indented(output.trimEnd())}`);
  return `\n${shown(file)}\n${indented(parts.join("\n"))}\n`;
}

const indented = (text: string): string => text.replaceAll(/^(?=.)/gm, "  ");

function failureOf(report: FileReport, data: Data): Failure {
  const error = data.details?.error;
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return {
    at: `${shown(data.file ?? "")}:${data.line ?? 0}`,
    path: pathOf(report, data),
    error: typeof cause === "string" ? cause : inspect(cause),
  };
}

/** The reason of node:test: `subtestsFailed` if the tests inside have their own results; null if the test passed. */
function failureType({ details }: Data): string | null {
  const error = details?.error;
  return error instanceof Error && "failureType" in error ? String(error.failureType) : null;
}

/** The titles from the outermost test to this one. The result of a file itself is not one of its tests. */
function pathOf({ titles }: FileReport, { name, entryFile, parentId }: Data): string[] {
  const path = [name ?? ""];
  if (entryFile === undefined) return path;
  for (let at = titles.get(parentId ?? 0); at !== undefined && path.length < 100; at = titles.get(at.parent))
    path.unshift(at.title);
  return path;
}

function sumsOf({ counts = {}, duration_ms: durationMs }: Data): string {
  const { tests = 0, passed = 0, failed = 0, cancelled = 0, skipped = 0, todo = 0 } = counts;
  const more = todo > 0 ? `, ${todo} to do` : "";
  return `${tests} tests: ${passed} passed, ${failed + cancelled} failed, ${skipped} skipped${more}; ${seconds(durationMs)}\n`;
}
