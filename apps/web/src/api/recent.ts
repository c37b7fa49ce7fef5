/** The newest stored events, so that the list is not empty on a page that was just opened. */

import { readEvent, type DomainEvent } from '../stream/events';

export const RECENT_LIMIT = 50;
const RECENT_TIMEOUT_MS = 5_000;

/**
 * Newest first. Never rejects: without the analytics service the list simply starts empty, and
 * everything that happens from now on still arrives on the stream.
 */
export async function fetchRecent(
  analyticsUrl: string,
  sellerId: string | null,
  fetchImpl: typeof fetch = fetch,
): Promise<readonly DomainEvent[]> {
  const query = new URLSearchParams({ limit: String(RECENT_LIMIT) });
  if (sellerId !== null) query.set('sellerId', sellerId);
  try {
    const response = await fetchImpl(`${analyticsUrl}/events/recent?${query.toString()}`, {
      signal: AbortSignal.timeout(RECENT_TIMEOUT_MS),
    });
    return response.ok ? readRecent(await response.json()) : [];
  } catch {
    return [];
  }
}

function readRecent(raw: unknown): readonly DomainEvent[] {
  const items = (raw as { data?: unknown } | null)?.data;
  if (!Array.isArray(items)) return [];
  return items.flatMap((item: { data?: unknown } | null) => readEvent(item?.data) ?? []);
}
