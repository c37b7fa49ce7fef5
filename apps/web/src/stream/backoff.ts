/** How long to wait before a reconnect. */

/** Before the server gives a `retry` of its own. */
export const BACKOFF_BASE_MS = 1_000;
export const BACKOFF_MAX_MS = 30_000;
/** Of a wait with full jitter at least this part is waited, so that no draw makes a busy loop. */
export const WAIT_PART_MIN = 0.1;
const DOUBLINGS_MAX = 10;

/**
 * Full jitter: pages that lost their server together do not come back together. `random` is
 * 0 ≤ x < 1, `baseMs` the server's own `retry`. From "Exponential Backoff and Jitter", AWS
 * Architecture Blog, 2015.
 */
export function backoffMs(attempt: number, random: number, baseMs = BACKOFF_BASE_MS): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, baseMs * 2 ** Math.min(attempt, DOUBLINGS_MAX));
  return Math.round(ceiling * Math.max(random, WAIT_PART_MIN));
}
