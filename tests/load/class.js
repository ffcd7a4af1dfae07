// A class: some students arrive early, the others within one second. Each repeats its request with the same key, reads
// its sandbox, holds it until all students have one, and releases it.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Student, audit, newRun, requireSandboxes, setting, sleepUntil, summary, thresholds } from './lib.js';

const STUDENTS = setting('STUDENTS', 100);
const RAMP_SEC = setting('RAMP_SEC', 20);
const HOLD_SEC = setting('HOLD_SEC', 30);
const EARLY = Math.floor(STUDENTS / 5);
// Long enough for the last release, even if the broker makes all students wait.
const maxDuration = `${RAMP_SEC + HOLD_SEC + 300}s`;

export const options = {
  ...summary,
  thresholds,
  scenarios: {
    students: { executor: 'per-vu-iterations', exec: 'student', vus: STUDENTS, iterations: 1, maxDuration },
    audit: { executor: 'per-vu-iterations', exec: 'auditClass', vus: 1, iterations: 1, maxDuration },
  },
};

export function setup() {
  requireSandboxes(STUDENTS);
  const begin = Date.now() + 1000;
  return { run: newRun(), begin, end: begin + (RAMP_SEC + 1 + HOLD_SEC) * 1000 };
}

function arrival(number) {
  return number < EARLY ? (number / EARLY) * RAMP_SEC * 1000 : (RAMP_SEC + Math.random()) * 1000;
}

export function student({ run, begin, end }) {
  const number = exec.scenario.iterationInTest;
  const student = new Student(`${run}-${number}`);
  sleepUntil(begin + arrival(number));
  const sendsTwice = number % 3 === 0;
  if (!student.allocate(sendsTwice ? 2 : 1)) {
    return;
  }
  student.allocate();
  student.get();
  student.checkHeld();
  sleepUntil(end);
  student.allocate();
  student.release();
  student.release();
}

export function auditClass({ run, end }) {
  let complete = audit(run, STUDENTS);
  while (!complete && Date.now() + 1000 < end) {
    sleep(1);
    complete = audit(run, STUDENTS);
  }
  check(complete, { 'all students hold a sandbox at the same time': (isComplete) => isComplete });
}
