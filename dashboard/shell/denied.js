// The view in the place of one that the role does not include, for people who follow a link or type an address.

import { h, section } from "../lib/dom.js";

/** `role` is the lowest role that suffices. */
export function deniedView(title, role, { name, role: held }) {
  const node = section("Not for your role",
    h("p", {}, `This page needs the role ${role}. You are signed in as `, h("bdi", {}, name), ` with the role ${held}.`),
    h("p", {}, `Sign out, and sign in with a token that has the role ${role}, or ask somebody who has one.`));
  return { title, node, isUnlisted: true, show() {}, hide() {}, destroy() {} };
}
