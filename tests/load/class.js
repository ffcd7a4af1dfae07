// A class: some students come early, the others within one second. Everybody asks again with the same key, looks at
// the sandbox, holds it until all have theirs, and gives it back.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Student, audit, newRun, requireSandboxes, setting, sleepUntil, summary, thresholds } from './lib.js';

const STUDENTS = setting('STUDENTS', 100);
const RAMP_SEC = setting('RAMP_SEC', 20);
const HOLD_SEC = setting('HOLD_SEC', 30);
const EARLY = Math.floor(STUDENTS / 5);
// Until the last one has given back, also if the broker asks everybody to wait.
const maxDuration = `${RAMP_SEC + HOLD_SEC + 300}s`;

export const options = {
  ...summary,
  thresholds,
  scenarios: {
    students: { executor: 'per-vu-iterations', exec: 'student', vus: STUDENTS, iterations: 1, maxDuration },
    audit: { executor: 'per-vu-iterations', exec: 'look', vus: 1, iterations: 1, maxDuration },
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
  const impatient = number % 3 === 0;
  if (!student.allocate(impatient ? 2 : 1)) {
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

export function look({ run, end }) {
  let complete = audit(run, STUDENTS);
  while (!complete && Date.now() + 1000 < end) {
    sleep(1);
    complete = audit(run, STUDENTS);
  }
  check(complete, { 'every student had a sandbox of its own at the same time': (yes) => yes });
}
