// Requests to the broker.

const TIMEOUT_MS = 35_000; // The broker gives up on a request after 30 s.

/** What went wrong. `status` is 0 if there was no answer. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "UNREACHABLE", retryAfter = null, runId = null } = {}) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, code, retryAfter, runId });
  }

  /** Whether the token is to blame. */
  get isRefused() {
    return this.status === 401 || this.status === 403;
  }
}

/**
 * A client with one token. `onRefused` hears of a token that is no longer good. Two equal GETs at the same time are
 * one request.
 */
export function createApi({ base, token, onRefused = () => {} }) {
  const closing = new AbortController();
  const underWay = new Map();

  async function request(method, path, params, headers = {}) {
    const response = await send(method, address(base, path, params), { authorization: `Bearer ${token}`, ...headers });
    const body = await readJson(response);
    if (response.ok && body !== null) return body;
    if (response.ok) throw new ApiError("The answer of the broker broke off.");
    const error = faultOf(response, body);
    if (error.isRefused && !closing.signal.aborted) onRefused(error);
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
      const key = address(base, path, params);
      const running = underWay.get(key);
      if (running) return running;
      const promise = request("GET", path, params).finally(() => underWay.delete(key));
      underWay.set(key, promise);
      return promise;
    },
    /** Starts a job; the answer comes at once and names the run. */
    start: (path, params = {}) => request("POST", path, params, { prefer: "respond-async" }),
    close: () => closing.abort(),
    isClosed: () => closing.signal.aborted,
  };
}

function address(base, path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return `${base}${path}${query && `?${query}`}`;
}

/** `null` for what is no JSON, as a load balancer's own error page. */
async function readJson(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

function faultOf(response, body) {
  const { status } = response;
  const { message, code, retry_after: inBody, run_id: runId } = body?.error ?? {};
  const inHeader = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ApiError(message ?? `The broker answered with HTTP ${status}.`, {
    status,
    code: code ?? "UNKNOWN",
    retryAfter: Number.isFinite(inHeader) ? inHeader : inBody ?? null,
    runId: status === 409 ? runId ?? runIn(message) : null,
  });
}

/** The id of a run in the text of a 409, as in `… already: sync-01774000000-1f0c7a52. Look at it …`. */
function runIn(message = "") {
  return /\b[a-z-]+-\d{6,}-[0-9a-f]+\b/.exec(message)?.[0] ?? null;
}
