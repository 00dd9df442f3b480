import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseRedisUrl } from "../../src/redis-url.ts";

const single = { tls: false, auth: {}, kind: "single", host: { host: "h", port: 6379 }, db: 0 } as const;
const hosts = [
  { host: "a", port: 1 },
  { host: "b", port: 6379 },
];

for (const [url, address] of [
  ["redis://h", single],
  ["redis://h/", single],
  ["redis://h:6380/3", { ...single, host: { host: "h", port: 6380 }, db: 3 }],
  ["rediss://[::1]:6380", { ...single, tls: true, host: { host: "::1", port: 6380 } }],
  ["redis://:p%40%2Fq@h", { ...single, auth: { password: "p@/q" } }],
  ["redis://u:p:q@h", { ...single, auth: { username: "u", password: "p:q" } }],
  ["redis+cluster://a:1,b", { tls: false, auth: {}, kind: "cluster", hosts }],
  ["rediss+sentinel://a:1,b:6379/main", { tls: true, auth: {}, kind: "sentinel", hosts: hosts, primary: "main" }],
  ["redis+unix:///tmp/my%20redis.sock", { tls: false, auth: {}, kind: "unix", path: "/tmp/my redis.sock" }],
] as const)
  test(`parses ${url}`, () => assert.deepEqual(parseRedisUrl(url), address));

const QUERY = /nobody reads.*after the host \(redis:\/\/127\.0\.0\.1:6379\/1\)/;
const USER = /redis:\/\/user:password@127\.0\.0\.1:6379/;
const SLASHES = /three slashes: redis\+unix:\/\/\/run\/redis\.sock/;
const HOST = /host:port \(percent-encode.* redis:\/\/127\.0\.0\.1:6379/;
for (const [url, says] of [
  ["localhost:6379", /must begin with redis:\/\//],
  ["http://canary", /must begin with redis:\/\//],
  ["rediss+unix:///canary.sock", /must begin with redis:\/\//],
  ["redis://", HOST],
  ["redis://user:canary/1@h", HOST],
  ["redis://user:canary@1@h", HOST],
  ["redis://h:99999", /port must be 1 to 65535.* redis:\/\/127\.0\.0\.1:6379/],
  ["redis+cluster://h:1,h:0", /port must be 1 to 65535/],
  ["redis://user:12/canary@h", /number of a database.*percent-encode/],
  ["redis://h/canary", /number of a database.* redis:\/\/127\.0\.0\.1:6379\/0/],
  ["redis://canary,h", /several hosts.*redis\+cluster:\/\//],
  ["redis+cluster://h/1", /no databases.*redis\+cluster:\/\//],
  ["redis+sentinel://h:26379", /master's name.*redis\+sentinel:\/\/.*\/main/],
  ["redis+unix://canary", SLASHES],
  ["redis+unix://canary/redis.sock", SLASHES],
  ["redis+unix:///", SLASHES],
  ["redis://h?db=canary", QUERY],
  ["redis://h:6379?", QUERY],
  ["redis://h/1?password=canary", QUERY],
  ["redis://h#canary", QUERY],
  ["redis://h/0#canary", QUERY],
  ["redis://h?password=canary@h", QUERY],
  ["redis://user:can?ary@h", QUERY],
  ["redis+cluster://h:1,h:2?db=canary", QUERY],
  ["redis+cluster://h#canary", QUERY],
  ["redis+sentinel://h/main?db=canary", QUERY],
  ["redis+sentinel://h/main/1", /after the master's name.*redis\+sentinel:\/\/.*\/main/],
  ["redis+unix:///run/redis.sock?db=canary", QUERY],
  ["redis+unix:///run/can#ary.sock", QUERY],
  ["redis+cluster://h/canary", /no databases/],
  ["redis://canary@h", USER],
  ["redis://canary:@h", USER],
  ["redis://:@h", USER],
  ["redis://@h", USER],
  ["redis+unix://canary@/run/redis.sock", USER],
  ["redis://:canary%@h", /% that encodes nothing/],
] as const)
  test(`refuses ${url}, says what is right and does not quote it`, () => {
    const address = parseRedisUrl(url);
    assert.ok("wrong" in address);
    assert.match(address.wrong, says);
    assert.doesNotMatch(address.wrong, /canary/);
  });

test("parses or refuses any text without a throw", () => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^redis(s|\+unix|\+cluster|\+sentinel)?:\/\/[a1:@/,%?[\]-]{0,20}$/),
  );
  fc.assert(fc.property(text, (url) => "wrong" in parseRedisUrl(url) || url.startsWith("redis")));
});
