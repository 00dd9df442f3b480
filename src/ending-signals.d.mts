export type EndingSignal = "SIGINT" | "SIGTERM" | "SIGHUP" | "SIGQUIT";

export declare const ENDING_SIGNALS: readonly EndingSignal[];

export declare function codeOfSignal(signal: EndingSignal): number;

export declare function outlivesTerminal(env?: Readonly<Record<string, string | undefined>>): boolean;

export declare function onEndingSignals(listen: (signal: EndingSignal) => void): () => void;
