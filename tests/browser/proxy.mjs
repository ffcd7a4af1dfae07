// A proxy in front of the broker.
import { createServer, request } from "node:http";
import { base } from "./browser.mjs";

/**
 * Starts a proxy. `route(incoming)` returns the `{path, headers}` with which a request is passed on, or the `{status, json}`
 * of the proxy's own answer. Returns its address, and a function that stops it.
 */
export async function startProxy(route) {
  const target = new URL(base);
  const server = createServer((incoming, outgoing) => {
    const { path, headers, status, json = {} } = route(incoming);
    if (status) return outgoing.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(json));
    const forwarded = request({ host: target.hostname, port: target.port, method: incoming.method, headers, path }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    forwarded.on("error", () => outgoing.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
