// More students than sandboxes: each sandbox is allocated once, and all other students get 409. One virtual user plays
// all students, because the test compares all responses and virtual users share no memory.
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
    exec.test.abort(`${STUDENTS} students cannot exhaust a pool with ${left} sandboxes; set STUDENTS or SANDBOX_PREFIX`);
  }
  return { run: newRun(), left };
}

// Sends the allocate requests of all students concurrently. Returns the students with a sandbox and those rejected with
// 409.
function allocateAll(students) {
  const responses = sendAll(students.map((student) => student.allocateRequest()));
  const holders = [];
  const refused = [];
  students.forEach((student, index) => {
    if (responses[index].status !== 409) {
      if (student.recordAllocation(responses[index])) {
        holders.push(student);
      }
      return;
    }
    refused.push(student);
    check(responses[index], {
      'a refusal has the code NO_SANDBOXES_AVAILABLE and Retry-After': (response) =>
        response.json('error.code') === 'NO_SANDBOXES_AVAILABLE' && Number(response.headers['Retry-After']) >= 1,
    });
  });
  return { holders, refused };
}

function sandboxes(students) {
  return new Set(students.map((student) => student.sandbox));
}

export default function ({ run, left }) {
  const students = Array.from({ length: STUDENTS }, (_, number) => new Student(`${run}-${number}`));
  const { holders, refused } = allocateAll(students);
  const used = sandboxes(holders);
  check(null, {
    'no sandbox is allocated twice': () => used.size === holders.length,
    'all sandboxes are allocated before a student is rejected': () => holders.length === left,
    'each student holds a sandbox or is rejected': () => holders.length + refused.length === STUDENTS,
  });

  const repeated = allocateAll(students);
  check(null, {
    'an empty pool does not affect replays': () => holders.every((student) => repeated.holders.includes(student)),
    'a rejected student is rejected again': () => repeated.refused.length === refused.length,
  });
  holders.forEach((student) => student.checkHeld());
  refused.forEach((student) => {
    check(student.held(), { 'a rejected student holds no sandbox': (ids) => ids !== null && ids.length === 0 });
  });

  holders.forEach((student) => student.release());
  if (CLEANUP) {
    runJob('cleanup');
    runJob('sync');
    sleep(1);
  }
  // The sync may have added new accounts, so these students may get a sandbox, but never a used one.
  const late = allocateAll(refused);
  check(null, { 'a used sandbox is never allocated again': () => late.holders.every((student) => !used.has(student.sandbox)) });
  late.holders.forEach((student) => student.release());
}
