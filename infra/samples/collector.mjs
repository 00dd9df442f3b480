// A sample stitch: asks the splitter which text it has dealt out, asks the counters what they have counted of that text, and
// answers with the sums.
//   collector.mjs SPLITTER COUNTER…
import { connect } from "crossstitch/stitch";

const stitch = connect({ concurrency: 10 });
const [splitter, ...counters] = stitch.args;
const timeoutMs = 2000;

async function totalOf(counter, text) {
  try {
    return (await stitch.ask(counter, text, { channel: "total", timeoutMs })).json();
  } catch (error) {
    stitch.log(error.message);
    return null;
  }
}

stitch.onMessage(async () => {
  const { file, text, lines } = (await stitch.ask(splitter, "", { timeoutMs })).json();
  const totals = await Promise.all(counters.map((counter) => totalOf(counter, text)));
  const sum = (field) => totals.reduce((so, total) => so + (total?.[field] ?? 0), 0);
  const silent = counters.filter((_, index) => totals[index] === null);
  return { file, lines, counted: sum("lines"), words: sum("words"), silent };
});
