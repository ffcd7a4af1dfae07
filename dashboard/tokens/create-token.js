// The form for a new token.

import { h } from "../lib/dom.js";
import { askForm, createEndField, createField } from "../lib/form.js";
import { linesOf } from "./token-text.js";

const ROLES = [
  ["track", "track: the scripts of labs; allocates and releases sandboxes"],
  ["viewer", "viewer: sees everything here, changes nothing"],
  ["operator", "operator: starts jobs, acts on sandboxes, pauses activities"],
  ["admin", "admin: also manages tokens and removes sandboxes in bulk"],
];

/** Resolves to `{token, secret}`, or to null if the admin cancels. */
export function askForToken({ api, clock }) {
  const textArea = () => h("textarea", { rows: "2", autocomplete: "off", spellcheck: "false" });
  const name = createField({
    label: "Name", hint: "The name of its user, such as a person or a lab. It is shown in the audit records.",
    input: h("input", { type: "text", autocomplete: "off", spellcheck: "false" }),
  });
  const role = createField({
    label: "Role", input: h("select", { onchange: showBounds }, ROLES.map(([value, text]) => h("option", { value }, text))),
  });
  const labs = createField({ label: "Labs (optional)", hint: "One on each line. Without any, it allocates for every lab.", input: textArea() });
  const prefixes = createField({
    label: "Name prefixes (optional)", hint: "One on each line. Without any, it allocates sandboxes of every name.", input: textArea(),
  });
  const end = createEndField({ label: "Expires (optional)", hint: "Without it, the token is valid until it is revoked." });
  const fields = { name, role, labs, name_prefixes: prefixes, expires_at: end };

  /** Only the role track allocates, so only it has bounds. */
  function showBounds() {
    for (const { node } of [labs, prefixes]) node.hidden = role.input.value !== "track";
  }

  function check() {
    return [...(name.input.value.trim() ? [] : [[name, "Enter a name."]]), ...end.faults(clock.now())];
  }

  function body() {
    const isTrack = role.input.value === "track";
    return {
      name: name.input.value.trim(),
      role: role.input.value,
      ...(isTrack && { labs: linesOf(labs.input.value), name_prefixes: linesOf(prefixes.input.value) }),
      ...(end.at() !== null && { expires_at: end.at() }),
    };
  }

  return askForm({
    title: "Create a token",
    fields: Object.values(fields),
    action: "Create",
    check,
    submit: () => api.post("/admin/tokens", body()),
    fieldOf: ({ code, message }) => {
      if (code === "TOKEN_NAME_TAKEN") return name;
      const [, key] = /^The body is invalid: (\w+)/.exec(message) ?? [];
      return fields[key] ?? null;
    },
  });
}
