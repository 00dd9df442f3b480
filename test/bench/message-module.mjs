// The stitches of the messages benchmark. "ask": asks another stitch `count` times, `concurrency` at once, and answers with the
// times. "flood": sends `count` messages one way, then asks once, and answers with the time for all. Otherwise: an echo.
export function start() {}

export async function message({ channel, data }, context) {
  if (channel === "") return data;
  const { to, count, concurrency } = JSON.parse(data);
  const from = performance.now();
  const times = [];
  let next = 0;
  const one = async () => {
    while (next < count) {
      next += 1;
      const at = performance.now();
      if (channel === "ask") await context.ask(to, "hello", { timeoutMs: 30_000 });
      else await context.send({ stitch: to }, "hello");
      times.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, one));
  // Messages from one stitch to another arrive in order: when this one is answered, all earlier ones were acknowledged.
  if (channel === "flood") await context.ask(to, "last", { timeoutMs: 60_000 });
  const ms = performance.now() - from;
  times.sort((a, b) => a - b);
  const at = (q) => times[Math.min(times.length - 1, Math.floor(q * times.length))];
  return { p50: at(0.5), p99: at(0.99), perSecond: (count * 1000) / ms };
}
