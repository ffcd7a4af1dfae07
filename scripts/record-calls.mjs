// A proxy between the AWS SDK and an emulator that notes which permissions the broker's calls need:
//   node scripts/record-calls.mjs http://127.0.0.1:8000 calls.txt
// Prints its own URL. Calls of other clients (the tests' own) pass, unnoted: the broker's carry its name in User-Agent.
import { appendFileSync, writeFileSync } from "node:fs";
import http from "node:http";

const [target, file] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });
const seen = new Set();
writeFileSync(file, "");

function note(permission) {
  if (seen.has(permission)) return;
  seen.add(permission);
  appendFileSync(file, `${permission}\n`);
}

// A transaction needs the permission of every action in it.
const INNER = { Put: "PutItem", Update: "UpdateItem", Delete: "DeleteItem", ConditionCheck: "ConditionCheckItem" };

function record(operation, body) {
  const [api, name] = operation.split(".");
  if (api === "secretsmanager") return note(`secretsmanager:${name}`);
  const call = JSON.parse(body);
  if (name === "TransactWriteItems") {
    for (const action of call.TransactItems) note(`dynamodb:${INNER[Object.keys(action)[0]]} on table`);
  } else {
    note(`dynamodb:${name} on ${call.IndexName ? "index" : "table"}`);
  }
}

const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks);
    const operation = request.headers["x-amz-target"];
    if (operation && /\bapp\/sandbox-broker\b/.test(request.headers["user-agent"] ?? "")) {
      record(operation.replace(/^DynamoDB_\d+/, "dynamodb"), body);
    }
    const { hostname, port } = new URL(target);
    const onward = http.request(
      { agent, hostname, port, method: request.method, path: request.url, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.destroy());
    response.on("close", () => onward.destroy());
    onward.end(body);
  });
  request.on("error", () => {});
});
server.keepAliveTimeout = 600_000;
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
