// Import this before all other modules, because their loading may be the first use of the threads.
import { useManyThreads } from "./bounded-files.ts";

useManyThreads();
