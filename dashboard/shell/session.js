// The admin token. It lives in sessionStorage only: it ends with the tab, and only duplicates of the tab have it, too.

const KEY = "broker-admin-token";

export const session = {
  token: () => sessionStorage.getItem(KEY),
  keep: (token) => sessionStorage.setItem(KEY, token),
  clear: () => sessionStorage.removeItem(KEY),
};
