import type { DomainEvent } from './events';

/** Aggregates whose newest sequence is remembered; the one not heard of for longest goes first. */
export const AGGREGATES_MAX = 10_000;

/**
 * The newest sequence of each (topic, subject), to tell a repeated event from a new one.
 *
 * Order holds per (topic, subject), so what is not above the newest came before. An event of a type
 * that is not known, whose topic is not known either, is told by its event id.
 */
export class Newest {
  readonly #sequences = new Map<string, number>();
  readonly #capacity: number;

  constructor(capacity = AGGREGATES_MAX) {
    this.#capacity = capacity;
  }

  /** Takes an event; false for one that was there. */
  isNew(event: DomainEvent): boolean {
    const key = event.topic === null ? event.id : `${event.topic} ${event.subject}`;
    const held = this.#sequences.get(key) ?? 0;
    this.#sequences.delete(key);
    this.#sequences.set(key, Math.max(held, event.sequence));
    if (this.#sequences.size > this.#capacity) {
      const oldest = this.#sequences.keys().next();
      if (!oldest.done) this.#sequences.delete(oldest.value);
    }
    return event.sequence > held;
  }
}
