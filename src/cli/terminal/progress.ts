import { clearLine, cursorTo } from "node:readline";
import type { JobResource } from "../../contract/job.ts";
import { endedSteps, progressText } from "./job-text.ts";
import type { Output } from "./output.ts";
import { printable } from "../../printable.ts";
import { cut } from "./table.ts";

const BAR = 20;

export type Progress = {
  /** Takes a look at the job. */
  readonly show: (job: JobResource) => void;
  /** Wipes what was drawn, so that the next line stands alone. May be called twice. */
  readonly end: () => void;
};

/**
 * How a job goes: on a terminal one line drawn over itself, a bar and counts per node; elsewhere a plain line at each
 * change; with `--json` nothing. Of a job of several waves also the wave it is in.
 *
 * It leaves stdin alone: a shell loop that feeds `stitch` its lines would lose them.
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

/** Steps alone do not tell how many stitches are done (a move has three), so what the API says of it follows. */
const lineOf = (job: JobResource): string =>
  [progressText(job), printable(job.progress.message)].filter((text) => text !== "").join("  ");
