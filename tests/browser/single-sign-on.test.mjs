// Tests single sign-on in a real browser: behind a proxy that signs somebody in as a load balancer does, and from pages
// of another site. scripts/with-sign-on has the settings of the broker.
import assert from "node:assert/strict";
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { createServer, request } from "node:http";
import { after, before, test } from "node:test";
import { base, openPage } from "./browser.mjs";
import { api } from "./operator.mjs";

const SESSION = "AWSELBAuthSessionCookie-0=olga";
const JOB = "/v1/admin/auto-expire";
const keysUrl = new URL(process.env.ALB_OIDC_KEYS_URL);
const keyId = randomUUID();
const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
const timeout = 60_000;
const servers = [];
/** The requests that arrived at the load balancer with the session of the person. */
let arrived = [];
let root, otherOrigins;

async function listen(port, handle) {
  const server = createServer(handle);
  servers.push(server);
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return server.address().port;
}

/** Signs the claims of a person as a load balancer does: base64url with padding. */
function signedIn() {
  const encode = (bytes) => {
    const text = Buffer.from(bytes).toString("base64url");
    return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
  };
  const fields = {
    alg: "ES256", kid: keyId, signer: process.env.ALB_OIDC_SIGNER_ARN, iss: "https://login.example.com",
    client: "sandbox-broker", exp: Math.floor(Date.now() / 1000) + 120,
  };
  const claims = { sub: "00u1", email: "olga@example.com", groups: ["platform-team"] };
  const message = [fields, claims].map((part) => encode(JSON.stringify(part))).join(".");
  return `${message}.${encode(sign("sha256", Buffer.from(message), { key: privateKey, dsaEncoding: "ieee-p1363" }))}`;
}

/** Forwards a request to the broker with the identity of the person whose session it has. */
function loadBalancer(incoming, outgoing) {
  const { "x-amzn-oidc-data": _, ...headers } = incoming.headers;
  const isSignedIn = headers.cookie?.includes(SESSION);
  if (incoming.url === "/sign-in") {
    return outgoing.writeHead(200, { "set-cookie": `${SESSION}; Path=/; Secure; HttpOnly; SameSite=None` }).end();
  }
  // The browser asks for it on the page of the sign-in, which links to none.
  if (incoming.url === "/favicon.ico") return outgoing.writeHead(204).end();
  if (isSignedIn) headers["x-amzn-oidc-data"] = signedIn();
  const { hostname, port } = new URL(base);
  const forwarded = request({ hostname, port, method: incoming.method, path: incoming.url, headers }, (answer) => {
    if (isSignedIn) arrived.push(`${incoming.method} ${incoming.url} ${answer.statusCode}`);
    outgoing.writeHead(answer.statusCode, answer.headers);
    answer.pipe(outgoing);
  });
  forwarded.on("error", () => outgoing.destroy());
  incoming.pipe(forwarded);
}

before(async () => {
  await listen(keysUrl.port, (incoming, outgoing) => {
    const isKey = incoming.url === `${keysUrl.pathname.replace(/\/$/, "")}/${keyId}`;
    outgoing.writeHead(isKey ? 200 : 403).end(isKey ? publicKey.export({ type: "spki", format: "pem" }) : "");
  });
  root = `http://127.0.0.1:${await listen(0, loadBalancer)}`;
  const port = await listen(0, (_, outgoing) => outgoing.writeHead(200, { "content-type": "text/html" }).end(
    `<form method="post" action="${root}${JOB}"><button>Win</button></form>`));
  // An origin of the same site, as another host of the same domain is one, and one of another site.
  otherOrigins = [`http://127.0.0.1:${port}/`, `http://localhost:${port}/`];
});

after(() => servers.forEach((server) => {
  server.closeAllConnections();
  server.close();
}));

const runs = async () => (await api("/admin/jobs")).runs.length;

test("a person who has signed in needs no token, and changes the pool from the dashboard", { timeout }, async () => {
  const { page, assertNoErrors } = await openPage(root);
  await page.goto(`${root}/sign-in`);
  await page.goto(`${root}/dashboard`);
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  await page.getByText("olga@example.com").waitFor();
  const status = await page.evaluate(async (path) => (await fetch(path, { method: "POST" })).status, JOB);
  assert.equal(status, 200);
  assert.ok(arrived.includes("GET /v1/admin/me 200"), arrived.join("\n"));
  assertNoErrors();
  await page.close();
});

test("pages of other origins neither change nor read anything with the session of a person", { timeout }, async () => {
  const { page } = await openPage();
  const before = await runs();
  await page.goto(`${root}/sign-in`);
  for (const [at, origin] of otherOrigins.entries()) {
    arrived = [];
    await page.goto(origin);
    const outcomes = await page.evaluate(async ([job, read]) => {
      const attempt = (url, options) =>
        fetch(url, { credentials: "include", ...options }).then((answer) => answer.type, () => "failed");
      const image = new Image();
      const loaded = new Promise((resolve) => {
        image.onload = () => resolve("loaded");
        image.onerror = () => resolve("failed");
      });
      image.src = read;
      return [
        await attempt(job, { method: "POST", mode: "no-cors" }),
        await attempt(job, { method: "POST" }),
        await attempt(read, {}),
        await attempt(read, { mode: "no-cors" }),
        await loaded,
      ];
    }, [`${root}${JOB}`, `${root}/v1/admin/overview`]);
    assert.deepEqual(outcomes, ["opaque", "failed", "failed", "opaque", "failed"]);
    await page.getByRole("button", { name: "Win" }).click();
    await page.waitForURL(`${root}${JOB}`);
    assert.match(await page.locator("body").innerText(), /does not come from a page of this broker/);
    // The browser did send the session along: without the check, each of these would have counted. To another site it
    // sends it only with the form, unless third-party cookies are allowed.
    const count = (text) => arrived.filter((each) => each === text).length;
    const [changes, reads] = at === 0 ? [3, 3] : [1, 0];
    assert.ok(count(`POST ${JOB} 403`) >= changes, arrived.join("\n"));
    assert.ok(count("GET /v1/admin/overview 403") >= reads, arrived.join("\n"));
    assert.ok(arrived.every((each) => each.endsWith(" 403") || each.includes("/favicon")), arrived.join("\n"));
  }
  assert.equal(await runs(), before);
  await page.close();
});
