/** The most that waits while the system says that the reader is behind: a paused terminal, a full pipe. */
const MOST_WAITING_BYTES = 1024 * 1024;
const RETRY_MS = 100;

type LogOutputOptions = {
  /** Writes some of the bytes. @returns how many. @throws if it cannot write. */
  readonly write: (bytes: Uint8Array) => number;
  /** Makes the line, with its line end, that says how many lines were lost, and the error code of the last of them. */
  readonly lossLine: (lost: number, code: string) => string;
  /** For tests. Default: `MOST_WAITING_BYTES`. */
  readonly mostWaitingBytes?: number;
};

/** `lines`: how many lines are lost if this entry is lost. `reports`: how many lost lines this entry reports. */
type Waiting = { readonly bytes: Buffer; readonly lines: number; readonly reports: number };

/**
 * Writes a process's own log. It never throws: a full disk (ENOSPC), a closed reader (EPIPE), a broken disk or terminal (EIO)
 * cost lines. Lost lines are counted; when a line can be written again, a line before it says how many were lost.
 * If the reader is only behind (EAGAIN), lines wait, up to 1 MiB.
 */
export class LogOutput {
  readonly #options: LogOutputOptions;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Bytes of the first waiting line that are already written. */
  #begunBytes = 0;
  /** The last bytes written are the beginning of a line; the rest of that line is lost. */
  #isCutOff = false;
  /** Lost lines that are not reported yet. */
  #lost = 0;
  #lostEver = 0;
  #code = "";
  #retry: NodeJS.Timeout | undefined;

  constructor(options: LogOutputOptions) {
    this.#options = options;
  }

  /** How many lines were lost since the process began. */
  get lostEver(): number {
    return this.#lostEver;
  }

  /** @param line with its line end. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    // The line does not fit, so it is lost. The next line that fits comes after a report, where lines are missing.
    if (this.#waitingBytes + bytes.length > (this.#options.mostWaitingBytes ?? MOST_WAITING_BYTES))
      this.#lose(1, "EAGAIN");
    else {
      const reported = this.#waiting.reduce((sum, { reports }) => sum + reports, 0);
      const reports = this.#lost - reported;
      if (reports > 0) this.#await(Buffer.from(this.#options.lossLine(reports, this.#code)), 0, reports);
      this.#await(bytes, 1, 0);
    }
    this.flush();
  }

  /** Writes as many of the waiting lines as the output takes now. */
  flush(): void {
    clearTimeout(this.#retry);
    try {
      for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
        this.#begunBytes += this.#options.write(first.bytes.subarray(this.#begunBytes));
        if (this.#begunBytes < first.bytes.length) continue;
        this.#isCutOff = false;
        this.#lost -= first.reports;
        this.#waiting.shift();
        this.#waitingBytes -= first.bytes.length;
        this.#begunBytes = 0;
      }
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
      if (code === "EAGAIN") this.#retry = setTimeout(() => this.flush(), RETRY_MS).unref();
      else this.#loseAll(code);
    }
  }

  #await(line: Buffer, lines: number, reports: number): void {
    // After a cut-off line, the next bytes begin on a new line.
    const bytes = this.#isCutOff && this.#waiting.length === 0 ? Buffer.concat([Buffer.from("\n"), line]) : line;
    this.#waiting.push({ bytes, lines, reports });
    this.#waitingBytes += bytes.length;
  }

  #loseAll(code: string): void {
    this.#isCutOff ||= this.#begunBytes > 0;
    const lines = this.#waiting.reduce((sum, one) => sum + one.lines, 0);
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#begunBytes = 0;
    this.#lose(lines, code);
  }

  #lose(lines: number, code: string): void {
    this.#lost += lines;
    this.#lostEver += lines;
    this.#code = code;
  }
}
