// What the load tests share: a student who behaves as a lab's scripts do, and the checks of what the broker answers.
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
    throw new Error(`${name} takes a number that is not negative`);
  }
  return value;
}

const PATIENCE_SEC = setting('PATIENCE_SEC', 60);
// An index of DynamoDB may lag behind its table.
const INDEX_LAG_SEC = setting('INDEX_LAG_SEC', 5);

export const thresholds = {
  checks: ['rate==1'],
  unexpected_answers: ['count==0'],
  allocation: [`p(99)<${setting('P99_MS', 2000)}`],
};

export const summary = { summaryTrendStats: ['min', 'med', 'p(95)', 'p(99)', 'max'] };

// For k6's own count of failures: a refusal may be what is right.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 299 }, 409));

export function sleepUntil(time) {
  sleep(Math.max(0, time - Date.now()) / 1000);
}

// A name that no other run has, so that runs do not meet each other's claims.
export function newRun() {
  return `load-${Date.now().toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`;
}

// How many seconds the broker asks a client to stay away; null if the answer is final.
function pauseAsked(answer) {
  const seconds = Number(answer.headers['Retry-After']);
  return (answer.status === 429 || answer.status === 503) && seconds > 0 ? seconds : null;
}

// Sends requests at once, and those again that were told to wait, not before their time. In the order of `requests`.
export function sendAll(requests) {
  const answers = [];
  const deadline = Date.now() + PATIENCE_SEC * 1000;
  let open = requests.map((_, at) => at);
  while (open.length > 0) {
    const batch = http.batch(open.map((at) => requests[at]));
    let pause = 0;
    const again = [];
    open.forEach((at, place) => {
      answers[at] = batch[place];
      const asked = pauseAsked(batch[place]);
      if (asked !== null && Date.now() + asked * 1000 < deadline) {
        waits.add(1, { status: String(batch[place].status) });
        pause = Math.max(pause, asked);
        again.push(at);
      }
    });
    open = again;
    // Spread, so that those who were turned away do not come back as one.
    sleep(open.length > 0 ? pause + Math.random() : 0);
  }
  return answers;
}

function send(request) {
  return sendAll([request])[0];
}

function body(answer) {
  try {
    return answer.json() || {};
  } catch {
    return {};
  }
}

// Whether the answer has one of the statuses; one that has not is counted and logged.
export function expect(answer, name, statuses) {
  const fine = check(answer, { [`${name} answers ${statuses.join(' or ')}`]: ({ status }) => statuses.includes(status) });
  if (!fine) {
    const { code, request_id: id } = body(answer).error || {};
    unexpected.add(1, { name, status: String(answer.status) });
    console.error(`${name}: ${answer.status} ${code || answer.error} ${id || ''}`);
  }
  return fine;
}

function request(method, path, token, headers, name) {
  return {
    method,
    url: `${BASE}${path}`,
    params: { headers: { Authorization: `Bearer ${token}`, ...headers }, tags: { name }, timeout: '40s' },
  };
}

// One play of a lab. Its id is its caller id and, as it sends no other, its key.
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

  // Takes in what an allocation answered: the first time 201, or 200 if the answer to an earlier attempt was lost.
  took(answer) {
    if (!expect(answer, 'allocate', [201, 200])) {
      return false;
    }
    if (answer.status === 201) {
      allocation.add(answer.timings.duration);
    }
    const { sandbox_id: sandbox } = body(answer);
    this.sandbox = this.sandbox || sandbox;
    return check(sandbox, { 'the same call gets the same sandbox': (got) => Boolean(got) && got === this.sandbox });
  }

  // The call, `times` times at once, as when a script loses patience.
  allocate(times = 1) {
    const answers = sendAll(Array.from({ length: times }, () => this.allocateRequest()));
    const took = answers.map((answer) => this.took(answer));
    check(answers, { 'at most one call is the first': () => answers.filter(({ status }) => status === 201).length <= 1 });
    return took.every(Boolean);
  }

  // What the broker says that the student holds.
  held() {
    const answer = send(this.request('GET', '/sandboxes', 'held'));
    return expect(answer, 'held', [200]) ? (body(answer).sandboxes || []).map((one) => one.sandbox_id) : null;
  }

  // Never more than one sandbox, and in a moment just this.
  checkHeld() {
    let held = this.held();
    for (let waited = 0; held && held.length === 0 && waited < INDEX_LAG_SEC; waited += 1) {
      sleep(1);
      held = this.held();
    }
    check(held, { 'a student holds the one sandbox it was given': (ids) => ids !== null && ids.length === 1 && ids[0] === this.sandbox });
  }

  get() {
    const answer = send(this.request('GET', `/sandboxes/${this.sandbox}`, 'get'));
    if (expect(answer, 'get', [200])) {
      check(body(answer), { 'the sandbox is its holder\'s': (got) => got.allocated_to_track === this.id && got.status === 'allocated' });
    }
  }

  release() {
    const answer = send(this.request('POST', `/sandboxes/${this.sandbox}/mark-for-deletion`, 'release'));
    if (expect(answer, 'release', [200])) {
      check(body(answer), { 'a sandbox given back waits for its deletion': (got) => got.sandbox_id === this.sandbox && got.status === 'pending_deletion' });
    }
  }
}

function admin(method, path, name) {
  const answer = send(request(method, path, ADMIN_TOKEN, {}, name));
  return expect(answer, name, [200]) ? body(answer) : null;
}

// Runs a job; if it runs already, waits for its turn.
export function runJob(job) {
  const deadline = Date.now() + PATIENCE_SEC * 1000;
  let answer = send(request('POST', `/admin/${job}`, ADMIN_TOKEN, {}, job));
  while (answer.status === 409 && Date.now() < deadline) {
    sleep(1);
    answer = send(request('POST', `/admin/${job}`, ADMIN_TOKEN, {}, job));
  }
  return expect(answer, job, [200]);
}

// All sandboxes of a status with a text in their id, name, lab or caller.
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

// How many sandboxes the students may have.
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
    exec.test.abort(`${wanted} sandboxes are needed, and ${left} are available`);
  }
}

// Looks at all students of the run at once, which no student can: nobody has two, and, with `all`, everybody has one.
export function audit(run, all) {
  const held = list('allocated', `${run}-`);
  if (!held) {
    return false;
  }
  const holders = new Set(held.map((one) => one.allocated_to_track));
  check(held, { 'no student holds two sandboxes': () => holders.size === held.length });
  return all === undefined || held.length === all;
}
