/** The data of the stream's named events; what cannot be read becomes what is safe. */

import { BACKOFF_BASE_MS } from './backoff';
import { GAP_REASONS, type GapReason } from './port';

/** What a goodbye or a refusal asks for is waited up to here. */
export const ASKED_MAX_MS = 120_000;

function readObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** A reason of a newer service is as good as that nothing was resumed. */
export function readGapReason(text: string): GapReason {
  const reason = readObject(text).reason;
  return GAP_REASONS.find((known) => known === reason) ?? 'not_resumed';
}

export function readRetryMs(text: string): number {
  const retryMs = readObject(text).retryMs;
  const asked = typeof retryMs === 'number' && retryMs >= 0 ? retryMs : BACKOFF_BASE_MS;
  return Math.min(asked, ASKED_MAX_MS);
}

export function readResumed(text: string): boolean {
  return readObject(text).resumed === true;
}

export function readReason(text: string): string {
  return String(readObject(text).reason);
}
