// The HTTP client of the broker's API.

const TIMEOUT_MS = 35_000; // Longer than the 30 s after which the broker itself ends a request.

/**
 * A failed request. `status` is 0 if there was no response; `runId` names the run that prevents a new one (409), and
 * `faults` are those of a policy (400).
 */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "UNREACHABLE", retryAfter = null, runId = null, faults = null } = {}) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { status, code, retryAfter, runId, faults });
  }

  /** Whether the broker refused the request, and so did nothing. A request without an answer may have had its effect. */
  get isRefusal() {
    return this.status >= 400 && this.status < 500;
  }
}

/**
 * Creates a client that sends `token`, or none if it is null: then the load balancer has signed the person in, and its
 * cookie is sent. Identical GETs that overlap share one request.
 *
 * `signInAgain(error)` is called when the broker rejects the token (401), and returns a promise of the next token.
 * Until then all requests wait; the rejected GETs are sent again, other methods fail. `onForbidden(error)` is called when
 * the role does not suffice (403).
 */
export function createApi({ base, token, signInAgain = null, onForbidden = () => {} }) {
  const closing = new AbortController();
  const closed = new Promise((_, reject) => {
    closing.signal.addEventListener("abort", () => reject(new ApiError("You have signed out.")));
  });
  closed.catch(() => {}); // Only requests that wait for a token need it.
  const pendingGets = new Map();
  let nextToken = null; // While the operator signs in again.

  /** A `body` is sent as JSON, unless it is a text; an answer is read as JSON, unless `isText`. */
  async function request(method, path, { params = {}, body, headers = {}, isText = false } = {}) {
    if (nextToken) await Promise.race([nextToken, closed]);
    const sentToken = token;
    const response = await send(method, urlOf(base, path, params), {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    }, body);
    const answer = await (isText && response.ok ? readText(response) : readJson(response));
    if (response.ok && (answer !== null || response.status === 204)) return answer;
    if (response.ok) throw new ApiError("The broker's response was incomplete.");
    const error = errorOf(response, answer);
    if (closing.signal.aborted) throw error;
    if (error.status === 403) onForbidden(error);
    if (error.status === 401 && signInAgain) {
      // A request that was sent before the operator signed in again must not ask once more.
      if (token === sentToken) nextToken ??= renewToken(error);
      if (method === "GET") return request(method, path, { params, headers, isText });
    }
    throw error;
  }

  async function renewToken(error) {
    token = await signInAgain(error);
    nextToken = null;
  }

  async function send(method, url, headers, body) {
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const sent = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    try {
      return await fetch(url, { method, headers, body: sent, signal, cache: "no-store", credentials: "same-origin" });
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
      const promise = request("GET", path, { params }).finally(() => pendingGets.delete(key));
      pendingGets.set(key, promise);
      return promise;
    },
    post: (path, body) => request("POST", path, { body }),
    put: (path, body) => request("PUT", path, { body }),
    delete: (path) => request("DELETE", path),
    /** Gets a text of a media type. */
    getText: (path, type, params = {}) => request("GET", path, { params, headers: { accept: type }, isText: true }),
    /** Sends a text of a media type; the answer is JSON. */
    sendText: (method, path, type, body, { params = {}, headers = {} } = {}) =>
      request(method, path, { params, body, headers: { "content-type": type, ...headers } }),
    /** Starts a job. The broker answers without waiting for the run to end, and names the run. */
    start: (path, params = {}) => request("POST", path, { params, headers: { prefer: "respond-async" } }),
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

/** Returns `null` for a body that ends early. */
async function readText(response) {
  try {
    return await response.text();
  } catch {
    return null;
  }
}

function errorOf(response, body) {
  const { status } = response;
  const { message, code, retry_after: inBody, run_id: runId, faults } = body?.error ?? {};
  const inHeader = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new ApiError(message ?? `The broker answered with HTTP ${status}.`, {
    status,
    code: code ?? "UNKNOWN",
    retryAfter: Number.isFinite(inHeader) ? inHeader : inBody ?? null,
    runId: runId ?? null,
    faults: faults ?? null,
  });
}
