// Notes what it was started with, in the file `journal`. With ProcessV1 it answers the first heartbeat, whose Id is 2.
import { appendFileSync } from "node:fs";

const { argv, env, ppid } = process;
appendFileSync("journal", `${JSON.stringify({ args: argv.slice(2), env, cwd: process.cwd(), ppid })}\n`);
console.log('{"Command":"sync","Id":2}\nend');
setInterval(() => undefined, 60_000);
