/** What waits for a reader that is behind, where the system says so: a terminal that is paused, a pipe that is full. */
const MOST_WAITING_BYTES = 1024 * 1024;
const RETRY_MS = 100;

type LogOutputOptions = {
  /** Writes some of the bytes. @returns how many. @throws where it cannot. */
  readonly write: (bytes: Uint8Array) => number;
  /** The line, with its end, that says how many were lost, and the code of the error that the last of them met. */
  readonly lossLine: (lost: number, code: string) => string;
  /** For tests. Default: `MOST_WAITING_BYTES`. */
  readonly mostWaitingBytes?: number;
};

/** `lines`: what it counts for where it is lost. `reports`: how many lost ones it tells of. */
type Waiting = { readonly bytes: Buffer; readonly lines: number; readonly reports: number };

/**
 * Where a process's own log goes. It never throws: a full disk (ENOSPC), a reader that has gone (EPIPE), a broken disk or
 * terminal (EIO) cost lines, which are counted; once a line can be written again, one before it says how many were lost.
 * Where the reader is only behind (EAGAIN), lines wait, up to 1 MiB.
 */
export class LogOutput {
  readonly #options: LogOutputOptions;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Of the first that waits, what is written already. */
  #begunBytes = 0;
  /** What was written last is the beginning of a line whose rest is lost. */
  #isCutOff = false;
  /** Lost, and not told of yet. */
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

  /** @param line with its end. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    // Full until some of it has gone out: what is let in between would stand where lines are missing.
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

  /** Writes what waits, as far as that goes now. */
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
    // What comes after the beginning of a line stands on a line of its own.
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
