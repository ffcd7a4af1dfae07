// Keeps the admin token in sessionStorage, so that it ends with the tab and only duplicates of the tab share it.

const KEY = "broker-admin-token";

export const session = {
  token: () => sessionStorage.getItem(KEY),
  save: (token) => sessionStorage.setItem(KEY, token),
  clear: () => sessionStorage.removeItem(KEY),
};
