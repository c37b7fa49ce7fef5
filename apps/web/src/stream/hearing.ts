import type { Heard, Said } from './tabs';

/** Leaders that lost the lock, whose last messages may still come. */
const RETIRED_MAX = 16;

/** Which leader a follower hears, and whether it has heard all that was said. */
export class Hearing {
  readonly #retired = new Set<string>();
  #heard: Heard | null = null;

  /** The leader that is heard, and how far. */
  get heard(): Heard | null {
    return this.#heard;
  }

  /** Whom it hears next is the first. */
  forget(): void {
    this.#heard = null;
  }

  /** Takes a message: `old` is of a leader of the past, `missed` means that one before it is. */
  take(message: Said): 'old' | 'next' | 'missed' {
    if (this.#retired.has(message.from)) return 'old';
    const missed = this.#missed(message);
    if (this.#heard !== null && this.#heard.from !== message.from) this.#retire(this.#heard.from);
    this.#heard = { from: message.from, count: message.count };
    return missed ? 'missed' : 'next';
  }

  #retire(leader: string): void {
    this.#retired.add(leader);
    for (const oldest of this.#retired) {
      if (this.#retired.size <= RETIRED_MAX) break;
      this.#retired.delete(oldest);
    }
  }

  #missed(message: Said): boolean {
    const heard = this.#heard;
    if (heard === null) return false;
    if (message.from === heard.from) {
      return message.count !== heard.count + (message.kind === 'welcome' ? 0 : 1);
    }
    if (message.kind !== 'lead') return true;
    // A new leader goes on where it had heard the last one: not after what this tab has heard. One
    // that had heard nobody begins at its own snapshot, which may be later.
    const { after } = message;
    return after?.from !== heard.from || after.count > heard.count;
  }
}
