// The view "Tokens", for admins: the named tokens, and the means to create and revoke them.

import { errorLine, fill, h, scrollRegion, section, setText } from "../lib/dom.js";
import { dateTime } from "../lib/format.js";
import { askForm } from "../lib/form.js";
import { createPoll } from "../lib/poll.js";
import { askForToken } from "./create-token.js";
import { showSecret } from "./secret-dialog.js";
import { boundsText, isLive, lastUseText, revocationText, sortTokens, stateOf, stateText } from "./token-text.js";

const INTERVAL_MS = 30_000;
const COLUMNS = ["Name", "Role", "May allocate", "Created", "Last used", "State", "Action"];
const PILL_CLASSES = { live: "succeeded", expiring: "interrupted", expired: "failed", revoked: "failed" };

export function tokensView(context) {
  const { api, clock, session, announce } = context;
  const error = errorLine();
  const rows = new Map(); // By the id of the token, so that a button keeps the focus when the list is loaded again.
  const body = h("tbody");
  const empty = h("p", { class: "muted" }, "Loading …");
  const table = h("table", {},
    h("caption", { class: "hidden" }, "Tokens"),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))),
    body);
  const node = section("Named tokens",
    h("p", { class: "muted" }, "The tokens of the broker's own environment, env-track and env-admin, are not in this list."),
    h("div", { class: "bar-line" }, h("button", { type: "button", class: "primary", onclick: create }, "Create a token …")),
    error, empty, scrollRegion("Tokens", table));

  const poll = createPoll({
    intervalMs: INTERVAL_MS,
    onFailure: ({ message }) => setText(error, `The tokens could not be loaded: ${message}`),
    run: async () => {
      const { tokens } = await api.get("/admin/tokens");
      setText(error, "");
      show(tokens);
    },
  });

  function show(tokens) {
    setText(empty, tokens.length > 0 ? "" : "There are no named tokens yet.");
    table.hidden = tokens.length === 0;
    const sorted = sortTokens(tokens, clock.now());
    const ids = new Set(sorted.map(({ token_id: id }) => id));
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      rows.delete(id);
    }
    sorted.forEach((token, index) => {
      if (!rows.has(token.token_id)) rows.set(token.token_id, tokenRow(revoke));
      const row = rows.get(token.token_id);
      row.update(token, { now: clock.now(), isOwn: token.token_id === session.tokenId });
      if (body.children[index] !== row.node) body.insertBefore(row.node, body.children[index] ?? null);
    });
  }

  async function create() {
    const created = await askForToken(context);
    if (created === null || api.isClosed()) return;
    showSecret(created);
    poll.refresh();
  }

  async function revoke(token) {
    const isOwn = token.token_id === session.tokenId;
    const revoked = await askForm({
      title: `Revoke ${token.name}?`,
      intro: [
        h("p", {}, `It stops working on every broker within 30 seconds, and cannot be brought back. ${revocationText(token)}`),
        h("p", {}, `Role ${token.role}. Last used: ${lastUseText(token, clock.now())}.`),
        isOwn && h("p", { class: "error" }, "You are signed in with this token: you will be signed out."),
      ],
      fields: [],
      action: "Revoke",
      isDanger: true,
      submit: () => api.delete(`/admin/tokens/${encodeURIComponent(token.token_id)}`),
    });
    if (revoked === null || api.isClosed()) return;
    announce(`${token.name}: revoked.`);
    poll.refresh();
  }

  return { title: "Tokens", node, show: poll.start, hide: poll.stop, destroy: poll.stop };
}

function tokenRow(onRevoke) {
  let current = null;
  const name = h("bdi");
  const note = h("small");
  const [role, bounds, created, lastUse] = COLUMNS.slice(1, 5).map(() => h("td"));
  const pill = h("span", { class: "pill" });
  const state = h("small", { class: "line" });
  const revoke = h("button", { type: "button", class: "danger", onclick: () => onRevoke(current) });
  const node = h("tr", {}, h("th", { scope: "row" }, name, note), role, bounds, created, lastUse, h("td", {}, pill, state), h("td", {}, revoke));

  function update(token, { now, isOwn }) {
    current = token;
    const key = stateOf(token, now);
    setText(name, token.name);
    setText(note, isOwn ? " (you)" : "");
    setText(role, token.role);
    setText(bounds, token.role === "track" ? boundsText(token) : "–");
    fill(created, dateTime(token.created_at), h("small", { class: "line" }, "by ", h("bdi", {}, token.created_by)));
    setText(lastUse, lastUseText(token, now));
    pill.className = `pill ${PILL_CLASSES[key]}`;
    setText(pill, key);
    setText(state, stateText(token, now));
    fill(revoke, "Revoke …", h("span", { class: "hidden" }, ` ${token.name}`));
    revoke.hidden = !isLive(token, now);
  }

  return { node, update };
}
