import * as z from "zod";
import { groupName } from "../domain/names/group.ts";
import type { Api, ApiDeps } from "./deps.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";

export const groupsQuery = z.strictObject(pageQuery);

export function routeGroups(app: Api, { master }: ApiDeps): void {
  app.get("/v1/groups", async (c) => c.json(await master.state.groups(pageOf(readQuery(c, groupsQuery)))));
  app.get("/v1/groups/:group", async (c) => {
    readQuery(c, noQuery);
    return c.json(await master.state.group(readPath(c, "group", groupName)));
  });
}
