import { clearLine, cursorTo } from "node:readline";
import type { JobResource } from "../../contract/job.ts";
import { endedSteps, progressText } from "./job-text.ts";
import type { Output } from "./output.ts";
import { printable } from "../../printable.ts";
import { cut } from "./table.ts";

const BAR = 20;

export type Progress = {
  /** Shows the job as it is now. */
  readonly show: (job: JobResource) => void;
  /** Erases the drawn line, so that the next line stands alone. May be called twice. */
  readonly end: () => void;
};

/**
 * Shows a job's progress: on a terminal one line that is redrawn, with a bar and counts per node; elsewhere a plain line at
 * each change; with `--json` nothing. For a job of several waves it also shows the current wave.
 *
 * It does not read stdin: `stitch` inside a shell loop would take the lines that the loop reads.
 */
export function createProgress(output: Output): Progress {
  if (output.json) return { show: () => undefined, end: () => undefined };
  return output.messagesOnTerminal ? drawn(output) : plain(output);
}

function drawn(output: Output): Progress {
  const stream = output.stderr;
  let visible = false;
  const wipe = (): void => {
    if (!visible) return;
    clearLine(stream, 0);
    cursorTo(stream, 0);
    visible = false;
  };
  return {
    show: (job) => {
      wipe();
      if (job.finishedAt !== null) return;
      const full = Math.floor((BAR * endedSteps(job)) / Math.max(1, job.counts.total));
      const text = ` ${printable(job.command)}  ${lineOf(job)}`;
      const bar = output.styled("green", "━".repeat(full)) + output.styled("dim", "─".repeat(BAR - full));
      stream.write(bar + cut(text, Math.max(1, (output.messageWidth ?? 80) - BAR - 1)));
      visible = true;
    },
    end: wipe,
  };
}

function plain(output: Output): Progress {
  let last: string | null = null;
  return {
    show: (job) => {
      if (job.finishedAt !== null) return;
      const line = `${job.status}  ${lineOf(job)}`;
      if (line !== last) output.note(line);
      last = line;
    },
    end: () => undefined,
  };
}

/** The steps do not show how many stitches are done (a move has three steps), so the API's progress message follows. */
const lineOf = (job: JobResource): string =>
  [progressText(job), printable(job.progress.message)].filter((text) => text !== "").join("  ");
