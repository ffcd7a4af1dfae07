// Sends the actions of an operator to the broker, without the DOM.

import { ApiError } from "../lib/api.js";

const MAX_ATTEMPTS = 4;
const CONCURRENCY = 4;

/** Sends a request, and again as long as the broker rejects it because of its rate: such a request did nothing. */
export async function whileRateLimited(request) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await request();
    } catch (error) {
      if (error.status !== 429 || attempt === MAX_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? attempt) * 1000));
    }
  }
}

/**
 * Performs an action on one sandbox. Returns `{row}`, or `{error}` if the broker refused it because of the sandbox's
 * state. Throws an `ApiError` for any other failure: the sandbox may be as it was, or the action may have been performed
 * and its answer lost. Only a request that the broker rejected because of its rate is repeated.
 */
export async function perform(api, action, id, body) {
  const path = `/admin/sandboxes/${encodeURIComponent(id)}/${action.name}`;
  try {
    return { row: await whileRateLimited(() => api.post(path, body)) };
  } catch (error) {
    if (error.status === 409 || error.status === 404) return { error };
    throw error;
  }
}

/** `SANDBOX_AVAILABLE: The sandbox is available.` */
export const failureText = ({ code, message }) => `${code}: ${message}`;

/**
 * Runs `task(item)`, which returns `{row}` or `{error}`, for each item, a few at a time, and calls `onResult(item, result)`
 * for each. An error that it throws is a result, too, and ends only its own item. No more items are begun once
 * `isStopped()` returns true.
 */
export async function forEach(items, task, onResult, isStopped = () => false, concurrency = CONCURRENCY) {
  const queue = items.values();
  async function work() {
    for (const item of queue) {
      if (isStopped()) return;
      onResult(item, await task(item).catch(asResult));
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work));
}

function asResult(error) {
  if (!(error instanceof ApiError)) throw error;
  return { error };
}
