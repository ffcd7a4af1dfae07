// The broker's clock: ages are measured with it because the operator's computer may have the wrong time.

export function createClock() {
  let offset = 0;
  const localSeconds = () => (performance.timeOrigin + performance.now()) / 1000;
  return {
    /** Sets the broker's current time, in Unix seconds. */
    set: (at) => { offset = at - localSeconds(); },
    now: () => localSeconds() + offset,
  };
}
