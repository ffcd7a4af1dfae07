// The jobs that may be off in the configuration, without the DOM.

/** The variable that turns each of them on, and its values that do. */
const SWITCHES = {
  check: { variable: "CHECK_MODE", values: "new or all" },
  refill: { variable: "REFILL_MODE", values: "plan or on" },
};

/** Whether a job of the overview is off: it then has no interval, as one that only operators start. */
export const isOff = ({ job, interval_seconds: interval }) => job in SWITCHES && interval === null;

/** Returns how a job is turned on. */
export function howToTurnOn(job) {
  const { variable, values } = SWITCHES[job];
  return `The job ${job} is off in the configuration of this broker. Set ${variable} to ${values} for brokers and jobs to turn it on.`;
}
