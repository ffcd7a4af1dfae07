// The session: the token of this tab, and the name and the role that the broker reports for it.

import { createApi } from "../lib/api.js";

const KEY = "broker-token";
const ROLES = ["viewer", "operator", "admin"]; // Each includes those before it.

/** The token, kept in sessionStorage, so that it ends with the tab and only duplicates of the tab share it. */
export const savedToken = {
  get: () => sessionStorage.getItem(KEY),
  save: (token) => sessionStorage.setItem(KEY, token),
  clear: () => sessionStorage.removeItem(KEY),
};

/** Whether the role `held` suffices where the role `required` is required. */
export const includesRole = (held, required) => ROLES.includes(required) && ROLES.indexOf(held) >= ROLES.indexOf(required);

/**
 * Returns the session that the broker reports for a token: `{token, name, role, isByLoadBalancer, tokenId, expiresAt,
 * may(role)}`. Without a token there is one only if the load balancer has signed the person in. Throws an `ApiError`.
 */
export async function fetchSession(base, token) {
  return createSession(token, await createApi({ base, token }).get("/admin/me"));
}

export function createSession(token, { name, role, signed_in_by: signedInBy, token_id: tokenId, expires_at: expiresAt }) {
  return {
    token, name, role, tokenId, expiresAt,
    isByLoadBalancer: signedInBy === "load_balancer",
    may: (required) => includesRole(role, required),
  };
}

/** Whether two sessions are of the same person in the same role, so that one can go on as the other. */
export const isSamePerson = (one, other) => one.name === other.name && one.role === other.role;
