// The requests about the policy. Its document is TOML here; the broker also takes and returns JSON.

const TOML = "application/toml";
const PATH = "/admin/policy";
const PAGE_SIZE = 20;

/** The code of a failure because the document in force, which a newer broker may have written, cannot be read. */
export const UNREADABLE = "POLICY_UNREADABLE";

/** Returns the document of a version, as text. */
export const fetchDocument = (api, version) => api.getText(PATH, TOML, { version });

/** Returns `{versions, cursor}`, newest first. */
export const fetchHistory = (api, cursor = null) => api.get(`${PATH}/history`, { limit: PAGE_SIZE, cursor });

/** Returns `{from, to, changes}`. */
export const fetchDifference = (api, from, to) => api.get(`${PATH}/difference`, { from, to });

/** Validates a document. Returns `{version, changes}`: its difference to the version in force. */
export const checkDocument = (api, text) => api.sendText("POST", `${PATH}/check`, TOML, bodyOf(text));

/** Makes a document the next version after `base`, if that is still the one in force. */
export const applyDocument = (api, { text, base, reason }) => api.sendText("PUT", PATH, TOML, bodyOf(text), {
  params: { reason: reason || null },
  headers: { "if-match": `"${base}"` },
});

/** An empty text is a policy that states nothing, but the broker refuses an empty body. */
const bodyOf = (text) => text || "\n";
