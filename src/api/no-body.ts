import type { ApiContext } from "./deps.ts";
import { invalidFields } from "./problem.ts";

/** @throws RequestError `invalid_request` if the request has a body: the route would ignore what it asks for. */
export async function takesNoBody(c: ApiContext, name: string): Promise<void> {
  if ((await c.req.arrayBuffer()).byteLength > 0) throw invalidFields([{ path: "", message: `${name} takes no body` }]);
}
