// To be imported before all else, since what other modules do as they are loaded may be the first use of the threads.
import { useManyThreads } from "./bounded-files.ts";

useManyThreads();
