// The HTTP client of the broker's API.

const TIMEOUT_MS = 35_000; // Longer than the 30 s after which the broker itself ends a request.

/** A failed request. `status` is 0 if there was no response; `runId` names the run that prevents a new one (409). */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "UNREACHABLE", retryAfter = null, runId = null } = {}) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, code, retryAfter, runId });
  }

  /** Whether the broker rejected the token. */
  get isTokenRejected() {
    return this.status === 401 || this.status === 403;
  }
}

/**
 * Creates a client for one token. `onTokenRejected(error)` is called when the broker rejects the token. Identical GETs
 * that overlap share one request.
 */
export function createApi({ base, token, onTokenRejected = () => {} }) {
  const closing = new AbortController();
  const pendingGets = new Map();

  async function request(method, path, params, headers = {}) {
    const response = await send(method, urlOf(base, path, params), { authorization: `Bearer ${token}`, ...headers });
    const body = await readJson(response);
    if (response.ok && body !== null) return body;
    if (response.ok) throw new ApiError("The broker's response was incomplete.");
    const error = errorOf(response, body);
    if (error.isTokenRejected && !closing.signal.aborted) onTokenRejected(error);
    throw error;
  }

  async function send(method, url, headers) {
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    try {
      return await fetch(url, { method, headers, signal, cache: "no-store", credentials: "omit" });
    } catch (error) {
      throw new ApiError(error.name === "TimeoutError"
        ? "The broker did not answer in time."
        : "The broker cannot be reached.");
    }
  }

  return {
    get(path, params = {}) {
      const key = urlOf(base, path, params);
      const pending = pendingGets.get(key);
      if (pending) return pending;
      const promise = request("GET", path, params).finally(() => pendingGets.delete(key));
      pendingGets.set(key, promise);
      return promise;
    },
    /** Starts a job. The broker answers without waiting for the run to end, and names the run. */
    start: (path, params = {}) => request("POST", path, params, { prefer: "respond-async" }),
    close: () => closing.abort(),
    isClosed: () => closing.signal.aborted,
  };
}

function urlOf(base, path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `${base}${path}${query && `?${query}`}`;
}

/** Returns `null` for a body that is not JSON, such as a load balancer's own error page. */
async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function errorOf(response, body) {
  const { status } = response;
  const { message, code, retry_after: inBody, run_id: runId } = body?.error ?? {};
  const inHeader = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ApiError(message ?? `The broker answered with HTTP ${status}.`, {
    status,
    code: code ?? "UNKNOWN",
    retryAfter: Number.isFinite(inHeader) ? inHeader : inBody ?? null,
    runId: runId ?? null,
  });
}
