// One instance of an AWS Lambda function: a process that loads the function's bundle and handles one event at a time.
//   node lambda-instance.ts BUNDLE       events come, and results go, as messages of the parent process
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { LambdaAnswer } from "./lambda-host.ts";

const [, , bundle = ""] = process.argv;
const { handler } = (await import(pathToFileURL(resolve(bundle)).href)) as {
  readonly handler: (event: unknown) => Promise<LambdaAnswer>;
};
process.on("message", (event) => {
  void handler(event).then((answer) => process.send?.(answer));
});
