// Shared by the load tests: a student that behaves like a lab's scripts, and checks of the broker's responses.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

const BASE = `${__ENV.BROKER_URL || 'http://127.0.0.1:8080'}${__ENV.API_BASE_PATH || '/v1'}`;
const TRACK_TOKEN = __ENV.BROKER_API_TOKEN || 'dev-track-token';
const ADMIN_TOKEN = __ENV.BROKER_ADMIN_TOKEN || 'dev-admin-token';

const unexpected = new Counter('unexpected_answers');
const waits = new Counter('asked_to_wait');
const allocation = new Trend('allocation', true);

export function setting(name, fallback) {
  const value = Number(__ENV[name] || fallback);
  if (!Number.isFinite(value) || value < 0) {
    throw new Error(`${name} must be a number that is not negative`);
  }
  return value;
}

const PATIENCE_SEC = setting('PATIENCE_SEC', 60);
// How long a DynamoDB index may lag behind its table.
const INDEX_LAG_SEC = setting('INDEX_LAG_SEC', 5);

export const thresholds = {
  checks: ['rate==1'],
  unexpected_answers: ['count==0'],
  allocation: [`p(99)<${setting('P99_MS', 2000)}`],
};

export const summary = { summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max'] };

// For k6's own failure count: 409 may be the correct response.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 409));

export function sleepUntil(time) {
  sleep(Math.max(0, time - Date.now()) / 1000);
}

// A unique name, so that runs do not share claims.
export function newRun() {
  return `load-${Date.now().toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`;
}

// Returns the Retry-After of a 429 or 503 in seconds, or null if the response is final.
function retryAfter(response) {
  const seconds = Number(response.headers['Retry-After']);
  return (response.status === 429 || response.status === 503) && seconds > 0 ? seconds : null;
}

// Sends requests concurrently and retries those that got Retry-After, never earlier than that. Returns the responses in
// the order of `requests`.
export function sendAll(requests) {
  const responses = [];
  const deadline = Date.now() + PATIENCE_SEC * 1000;
  let pending = requests.map((_, index) => index);
  while (pending.length > 0) {
    const batch = http.batch(pending.map((index) => requests[index]));
    let pause = 0;
    const retries = [];
    pending.forEach((index, place) => {
      responses[index] = batch[place];
      const seconds = retryAfter(batch[place]);
      if (seconds !== null && Date.now() + seconds * 1000 < deadline) {
        waits.add(1, { status: String(batch[place].status) });
        pause = Math.max(pause, seconds);
        retries.push(index);
      }
    });
    pending = retries;
    // Jitter, so that virtual users rejected together do not retry together.
    sleep(pending.length > 0 ? pause + Math.random() : 0);
  }
  return responses;
}

function send(request) {
  return sendAll([request])[0];
}

function body(response) {
  try {
    return response.json() || {};
  } catch {
    return {};
  }
}

// Returns whether the response has one of the statuses. Counts and logs any other status.
export function expect(response, name, statuses) {
  const expected = check(response, { [`${name} answers ${statuses.join(' or ')}`]: ({ status }) => statuses.includes(status) });
  if (!expected) {
    const { code, request_id: id } = body(response).error || {};
    unexpected.add(1, { name, status: String(response.status) });
    console.error(`${name}: ${response.status} ${code || response.error} ${id || ''}`);
  }
  return expected;
}

function request(method, path, token, headers, name) {
  return {
    method,
    url: `${BASE}${path}`,
    params: { headers: { Authorization: `Bearer ${token}`, ...headers }, tags: { name }, timeout: '40s' },
  };
}

// One play of a lab. It sends no idempotency key, so its caller id serves as the key.
export class Student {
  constructor(id) {
    this.id = id;
  }

  request(method, path, name) {
    const headers = { 'X-Instruqt-Sandbox-ID': this.id, 'X-Instruqt-Track-ID': 'load-test' };
    if (__ENV.SANDBOX_PREFIX) {
      headers['X-Sandbox-Name-Prefix'] = __ENV.SANDBOX_PREFIX;
    }
    return request(method, path, TRACK_TOKEN, headers, name);
  }

  allocateRequest() {
    return this.request('POST', '/allocate', 'allocate');
  }

  // Records an allocation: 201 for a new one, 200 for a replay, also if the response to an earlier attempt was lost.
  // Returns whether the response is valid.
  recordAllocation(response) {
    if (!expect(response, 'allocate', [201, 200])) {
      return false;
    }
    if (response.status === 201) {
      allocation.add(response.timings.duration);
    }
    const { sandbox_id: sandbox } = body(response);
    this.sandbox = this.sandbox || sandbox;
    return check(sandbox, { 'a repeated request returns the same sandbox': (id) => Boolean(id) && id === this.sandbox });
  }

  // Sends the allocate request `times` times concurrently, like a script that retries before the response arrives.
  allocate(times = 1) {
    const responses = sendAll(Array.from({ length: times }, () => this.allocateRequest()));
    const valid = responses.map((response) => this.recordAllocation(response));
    check(responses, { 'at most one request creates the allocation': () => responses.filter(({ status }) => status === 201).length <= 1 });
    return valid.every(Boolean);
  }

  // Returns the ids of the sandboxes that the broker lists for this student, or null on an error.
  held() {
    const response = send(this.request('GET', '/sandboxes', 'held'));
    return expect(response, 'held', [200]) ? (body(response).sandboxes || []).map((one) => one.sandbox_id) : null;
  }

  // Checks that the student holds exactly its sandbox; the list may lag by INDEX_LAG_SEC.
  checkHeld() {
    let held = this.held();
    for (let waited = 0; held && held.length === 0 && waited < INDEX_LAG_SEC; waited += 1) {
      sleep(1);
      held = this.held();
    }
    check(held, { 'a student holds exactly the sandbox allocated to it': (ids) => ids !== null && ids.length === 1 && ids[0] === this.sandbox });
  }

  get() {
    const response = send(this.request('GET', `/sandboxes/${this.sandbox}`, 'get'));
    if (expect(response, 'get', [200])) {
      check(body(response), { 'the sandbox is allocated to the student': (one) => one.allocated_to_track === this.id && one.status === 'allocated' });
    }
  }

  release() {
    const response = send(this.request('POST', `/sandboxes/${this.sandbox}/mark-for-deletion`, 'release'));
    if (expect(response, 'release', [200])) {
      check(body(response), { 'a released sandbox is pending deletion': (one) => one.sandbox_id === this.sandbox && one.status === 'pending_deletion' });
    }
  }
}

function admin(method, path, name) {
  const response = send(request(method, path, ADMIN_TOKEN, {}, name));
  return expect(response, name, [200]) ? body(response) : null;
}

// Runs a job. Retries while another run of it holds the job lease.
export function runJob(job) {
  const deadline = Date.now() + PATIENCE_SEC * 1000;
  let response = send(request('POST', `/admin/${job}`, ADMIN_TOKEN, {}, job));
  while (response.status === 409 && Date.now() < deadline) {
    sleep(1);
    response = send(request('POST', `/admin/${job}`, ADMIN_TOKEN, {}, job));
  }
  return expect(response, job, [200]);
}

// Returns all sandboxes with the status whose id, name, lab or caller contains the text, or null on an error.
export function list(status, text) {
  const found = [];
  let cursor = '';
  do {
    const page = admin('GET', `/admin/sandboxes?status=${status}&limit=100&q=${encodeURIComponent(text)}&cursor=${cursor || ''}`, 'list');
    if (!page) {
      return null;
    }
    found.push(...page.sandboxes);
    cursor = page.cursor;
  } while (cursor);
  return found;
}

// Returns the number of available sandboxes that match SANDBOX_PREFIX.
export function available() {
  const prefix = __ENV.SANDBOX_PREFIX;
  if (!prefix) {
    const stats = admin('GET', '/admin/stats', 'stats');
    return stats ? stats.available : 0;
  }
  return (list('available', prefix) || []).filter((one) => one.name.startsWith(prefix)).length;
}

export function requireSandboxes(wanted) {
  const left = available();
  if (left < wanted) {
    exec.test.abort(`the test needs ${wanted} sandboxes, but only ${left} are available`);
  }
}

// Checks in the admin list that no student of the run holds two sandboxes. Returns whether `all` sandboxes are
// allocated, if `all` is given.
export function audit(run, all) {
  const held = list('allocated', `${run}-`);
  if (!held) {
    return false;
  }
  const holders = new Set(held.map((one) => one.allocated_to_track));
  check(held, { 'no student holds two sandboxes': () => holders.size === held.length });
  return all === undefined || held.length === all;
}
