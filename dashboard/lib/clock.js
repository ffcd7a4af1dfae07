// The broker's time. A laptop's clock may be wrong; the age of a figure should not be.

export function createClock() {
  let offset = 0;
  const own = () => (performance.timeOrigin + performance.now()) / 1000;
  return {
    /** The broker says that it is `at` now. */
    set: (at) => { offset = at - own(); },
    now: () => own() + offset,
  };
}
