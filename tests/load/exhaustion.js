// More students than sandboxes. One virtual user plays them all, since virtual users share no memory and the answers
// of all have to be compared: every sandbox is given once, and whoever gets none gets 409 and nothing else.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Student, available, newRun, runJob, sendAll, setting, summary, thresholds } from './lib.js';

const STUDENTS = setting('STUDENTS', 250);
const CLEANUP = __ENV.CLEANUP === 'true';

export const options = {
  ...summary,
  thresholds,
  batch: STUDENTS,
  batchPerHost: 0,
  scenarios: {
    students: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: '30m' },
  },
};

export function setup() {
  const left = available();
  if (left === 0 || left >= STUDENTS) {
    exec.test.abort(`${STUDENTS} students do not exhaust a pool with ${left} sandboxes; set STUDENTS or SANDBOX_PREFIX`);
  }
  return { run: newRun(), left };
}

// Everybody asks at once. Returns who was served, and who was refused as it should be.
function askAll(students) {
  const answers = sendAll(students.map((student) => student.allocateRequest()));
  const served = [];
  const refused = [];
  students.forEach((student, at) => {
    if (answers[at].status !== 409) {
      if (student.took(answers[at])) {
        served.push(student);
      }
      return;
    }
    refused.push(student);
    check(answers[at], {
      'a refusal says that nothing is available, and when to ask again': (answer) =>
        answer.json('error.code') === 'NO_SANDBOXES_AVAILABLE' && Number(answer.headers['Retry-After']) >= 1,
    });
  });
  return { served, refused };
}

function sandboxes(students) {
  return new Set(students.map((student) => student.sandbox));
}

export default function ({ run, left }) {
  const students = Array.from({ length: STUDENTS }, (_, number) => new Student(`${run}-${number}`));
  const { served, refused } = askAll(students);
  const used = sandboxes(served);
  check(null, {
    'no sandbox is given twice': () => used.size === served.length,
    'every sandbox is given before anybody is refused': () => served.length === left,
    'everybody is served or refused': () => served.length + refused.length === STUDENTS,
  });

  const again = askAll(students);
  check(null, {
    'a holder still gets its own when nothing is left': () => served.every((student) => again.served.includes(student)),
    'who was refused is refused again': () => again.refused.length === refused.length,
  });
  served.forEach((student) => student.checkHeld());
  refused.forEach((student) => {
    check(student.held(), { 'who was refused holds nothing': (ids) => ids !== null && ids.length === 0 });
  });

  served.forEach((student) => student.release());
  if (CLEANUP) {
    runJob('cleanup');
    runJob('sync');
    sleep(1);
  }
  // CSP may have new accounts by now, so being served is no fault; with a used one it is.
  const late = askAll(refused);
  check(null, { 'a used sandbox is given to nobody': () => late.served.every((student) => !used.has(student.sandbox)) });
  late.served.forEach((student) => student.release());
}
