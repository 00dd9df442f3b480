// A server on the port of its first argument, which a test steers through its paths.
import { createServer } from "node:http";

const [port, mode = "well"] = process.argv.slice(2);
const GIGABYTE = 1024 ** 3;
let status = mode === "ill" ? 500 : 200;

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://x");
  if (pathname === "/set") status = Number(searchParams.get("status"));
  if (pathname === "/set" || pathname === "/close") response.end();
  // The program lives on, and its port is closed.
  if (pathname === "/close") server.close();
  if (pathname === "/close") setImmediate(() => server.closeAllConnections());
  if (pathname === "/health") response.writeHead(status, { location: "/elsewhere" }).end("a body");
  if (pathname === "/huge") {
    response.writeHead(200, { "content-length": GIGABYTE });
    const piece = Buffer.alloc(1024 * 1024);
    const write = () => {
      while (!response.destroyed && response.write(piece));
    };
    response.on("drain", write);
    write();
  }
});
setInterval(() => undefined, 3_600_000);
if (mode !== "closed") server.listen(Number(port), "127.0.0.1");
