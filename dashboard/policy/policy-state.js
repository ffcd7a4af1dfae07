// The policy in force and the history of its versions. They are loaded when the overview names a newer version.

import { observable } from "../lib/observable.js";
import { UNREADABLE, fetchDocument, fetchHistory } from "./requests.js";

/** The version before the first document: all labs have the terms of the environment. */
const NONE = { version: 0, text: "" };

/**
 * `state` holds `{inForce, versions, cursor}`, or null until it is loaded: `inForce` has `version`, `text`, and `author`,
 * `at` and `reason` unless it is version 0; a `fault` says why its document cannot be read, and then it has none. `error` holds the message of the last load that failed, or null.
 */
export function createPolicyState({ api }) {
  const state = observable(null);
  const error = observable(null);
  let loading = null;
  let isLoadedAgain = false; // A load was requested during another one, which may have read older versions.

  async function read() {
    const { versions, cursor } = await fetchHistory(api);
    const [newest] = versions;
    const current = state.get()?.inForce;
    if (!newest) return { inForce: NONE, versions, cursor };
    const document = current?.version === newest.version && !current.fault ? current : await readDocument(newest);
    return { inForce: { ...document, ...newest }, versions, cursor };
  }

  async function readDocument({ version }) {
    try {
      return { text: await fetchDocument(api, version) };
    } catch (cause) {
      if (cause.code !== UNREADABLE) throw cause;
      return { text: "", fault: cause.message };
    }
  }

  async function run() {
    do {
      isLoadedAgain = false;
      try {
        const next = await read();
        error.set(null);
        state.set(next);
      } catch (cause) {
        if (!api.isClosed()) error.set(cause.message);
      }
    } while (isLoadedAgain && !api.isClosed());
    loading = null;
  }

  return {
    state,
    error,
    /** Loads both; resolves when they are loaded, or `error` is set. */
    load() {
      if (loading) isLoadedAgain = true;
      loading ??= run();
      return loading;
    },
    /** Loads earlier versions. Throws an `ApiError`. */
    async loadOlder() {
      const { cursor } = state.get();
      const older = await fetchHistory(api, cursor);
      const now = state.get();
      if (now.cursor === cursor) state.set({ ...now, versions: [...now.versions, ...older.versions], cursor: older.cursor });
    },
    isOlderThan: (version) => (state.get()?.inForce.version ?? -1) < version,
  };
}
