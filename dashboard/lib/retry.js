// Repeats a request, so that a temporary error does not fail a load of many pages.

import { ApiError } from "./api.js";

const MAX_ATTEMPTS = 3;

export async function withRetries(request) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await request();
    } catch (error) {
      const isTemporary = error instanceof ApiError && (error.status === 0 || error.status === 429 || error.status >= 500);
      if (!isTemporary || attempt === MAX_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? attempt) * 1000));
    }
  }
}
