import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import * as z from "zod";
import { EtcdGateway, EtcdUnavailable } from "../../../src/etcd/gateway.ts";
import { membersOf } from "../../../src/etcd/etcd-lease.ts";

const servers: Server[] = [];
after(() => {
  for (const server of servers) server.closeAllConnections();
  for (const server of servers) server.close();
});

/** A member of an etcd that answers like this. */
async function member(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const answering =
  (status: number, text: string): RequestListener =>
  (_, response) =>
    response.writeHead(status).end(text);
const silent: RequestListener = () => undefined;
const answer = z.object({ ok: z.boolean() });
const call = (members: readonly string[]) => new EtcdGateway({ members, answerMs: 200 }).call("kv/range", {}, answer);

test("asks the members in turn until one answers, and that one first from then on", async () => {
  let asked = 0;
  const slow = await member((_, response) => {
    asked += 1;
    response.writeHead(503).end('{"error":"etcdserver: no leader","code":14}');
  });
  const good = await member(answering(200, '{"ok":true}\n{"ok":false}\n'));
  const gateway = new EtcdGateway({ members: [slow, good], answerMs: 200 });
  for (let count = 0; count < 3; count++) assert.deepEqual(await gateway.call("kv/range", {}, answer), { ok: true });
  assert.equal(asked, 1);
});

test("what does not exist is null, and no reason to ask another member", async () => {
  const other = await member(() => assert.fail());
  const gone = '{"error":"etcdserver: requested lease not found","message":"","code":5}';
  assert.equal(await call([await member(answering(404, gone)), other]), null);
});

test("names each member and why it does not answer", async () => {
  const members = await Promise.all([
    member(silent),
    member(answering(200, "<html>hello</html>")),
    member(answering(200, '{"other":1}')),
    member(answering(500, '{"error":"etcdserver: request timed out","code":14}')),
    member((_, response) => response.destroy()),
  ]);
  await assert.rejects(call([...members, "http://127.0.0.1:9"]), (error) => {
    assert.ok(error instanceof EtcdUnavailable);
    for (const [index, reason] of [
      "aborted due to timeout",
      "its answer is not that of an etcd",
      "its answer is not that of an etcd",
      "request timed out",
      "UND_ERR_SOCKET|ECONNRESET",
    ].entries())
      assert.match(error.message, new RegExp(`${members[index]}: [^;]*(${reason})`));
    return error.message.startsWith("STITCH_LEADER_LEASE: no member of the etcd answers (");
  });
});

test("a place names its members", () => {
  assert.deepEqual(membersOf("etcd+https://a:1,b.example:2379"), ["https://a:1", "https://b.example:2379"]);
});
