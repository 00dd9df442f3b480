// A sample stitch: prints the time each second, until it is told to end.
setInterval(() => process.stdout.write(`${new Date().toISOString()}\n`), 1000);
