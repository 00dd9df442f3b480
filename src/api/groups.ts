import * as z from "zod";
import { groupName } from "../domain/names/group.ts";
import { type Api, masterFor } from "./deps.ts";
import { noQuery, pageOf, pageQuery, readPath, readQuery } from "./query.ts";

export const groupsQuery = z.strictObject(pageQuery);

export function routeGroups(app: Api): void {
  app.get("/v1/groups", async (c) => {
    const page = pageOf(readQuery(c, groupsQuery));
    const { state } = await masterFor(c);
    return c.json(await state.groups(page));
  });
  app.get("/v1/groups/:group", async (c) => {
    readQuery(c, noQuery);
    const name = readPath(c, "group", groupName);
    const { state } = await masterFor(c);
    return c.json(await state.group(name));
  });
}
