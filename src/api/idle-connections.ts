import type { Server } from "node:http";
import type { Socket } from "node:net";

/**
 * Allows at most `most` idle connections: one more closes the connection that has been idle for longest. So a client that
 * opens connections and leaves them idle does not keep others out.
 */
export function boundIdle(server: Server, most: number): void {
  const idle = new Set<Socket>();
  const rest = (socket: Socket): void => {
    if (socket.destroyed) return;
    idle.add(socket);
    if (idle.size <= most) return;
    for (const longest of idle) {
      // Its close event comes only later; it must not count until then.
      idle.delete(longest);
      longest.destroy();
      break;
    }
  };
  server.on("connection", (socket: Socket) => {
    socket.once("close", () => idle.delete(socket));
    rest(socket);
  });
  server.prependListener("request", ({ socket }, response) => {
    idle.delete(socket);
    response.once("close", () => rest(socket));
  });
}
