/** The newest events, newest first, each once, at most `MAX_LISTED` of them. */

import type { DomainEvent } from '../stream/events';

export const MAX_LISTED = 200;

/** `arrived` in order of arrival: what came last stands on top. */
export function prepend(
  log: readonly DomainEvent[],
  arrived: readonly DomainEvent[],
): readonly DomainEvent[] {
  const known = new Set(log.map((event) => event.id));
  const fresh: DomainEvent[] = [];
  for (const event of arrived) {
    if (known.has(event.id)) continue;
    known.add(event.id);
    fresh.push(event);
  }
  return fresh.length === 0 ? log : [...fresh.reverse(), ...log].slice(0, MAX_LISTED);
}

/** Puts stored events, newest first, below those that came on the stream. */
export function appendOlder(
  log: readonly DomainEvent[],
  older: readonly DomainEvent[],
): readonly DomainEvent[] {
  const known = new Set(log.map((event) => event.id));
  const fresh = older.filter((event) => !known.has(event.id));
  return fresh.length === 0 ? log : [...log, ...fresh].slice(0, MAX_LISTED);
}
