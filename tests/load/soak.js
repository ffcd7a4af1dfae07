// Plays that start at a constant rate for a long time. Each allocates a sandbox, repeats the request, holds the sandbox
// for a while and releases it. The last third has to meet the same latency as the first.
import { sleep } from 'k6';
import exec from 'k6/execution';
import { Student, audit, newRun, requireSandboxes, setting, summary, thresholds } from './lib.js';

const PLAYS_PER_MIN = setting('PLAYS_PER_MIN', 30);
const SOAK_SEC = setting('SOAK_SEC', 1200);
const HOLD_SEC = setting('HOLD_SEC', 60);
const AUDIT_SEC = setting('AUDIT_SEC', 30);
const P99_MS = setting('P99_MS', 2000);
const vus = Math.ceil((PLAYS_PER_MIN / 60) * (HOLD_SEC + 5)) + 2;

export const options = {
  ...summary,
  thresholds: {
    ...thresholds,
    dropped_iterations: ['count==0'],
    'http_req_duration{name:allocate,part:first}': [`p(99)<${P99_MS}`],
    'http_req_duration{name:allocate,part:last}': [`p(99)<${P99_MS}`],
  },
  scenarios: {
    plays: {
      executor: 'constant-arrival-rate',
      exec: 'play',
      rate: PLAYS_PER_MIN,
      timeUnit: '60s',
      duration: `${SOAK_SEC}s`,
      preAllocatedVUs: vus,
      maxVUs: vus * 4,
      gracefulStop: `${HOLD_SEC + 120}s`,
    },
    audit: { executor: 'constant-vus', exec: 'auditPlays', vus: 1, duration: `${SOAK_SEC}s`, gracefulStop: '60s' },
  },
};

export function setup() {
  requireSandboxes(Math.ceil((PLAYS_PER_MIN * SOAK_SEC) / 60));
  return { run: newRun() };
}

export function play({ run }) {
  const part = exec.scenario.progress < 1 / 3 ? 'first' : exec.scenario.progress < 2 / 3 ? 'middle' : 'last';
  exec.vu.metrics.tags.part = part;
  const student = new Student(`${run}-${exec.scenario.iterationInTest}`);
  if (!student.allocate()) {
    return;
  }
  student.allocate();
  student.checkHeld();
  sleep(HOLD_SEC);
  student.get();
  student.release();
}

export function auditPlays({ run }) {
  audit(run);
  sleep(AUDIT_SEC);
}
