/** Idempotency keys: one for each intent, kept while its outcome is unknown. */

import { outcomeUnknown } from '../api/problem';

export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Sends a command so that pressing the button again after a lost answer cannot do it twice, while
 * pressing it again after a refusal is a new attempt (the API replays a stored refusal).
 */
export class Intent {
  #body: string | null = null;
  #key = '';

  async send<T>(body: unknown, run: (key: string) => Promise<T>): Promise<T> {
    const text = JSON.stringify(body);
    if (text !== this.#body) {
      this.#body = text;
      this.#key = newKey();
    }
    try {
      const answer = await run(this.#key);
      this.#body = null;
      return answer;
    } catch (error) {
      if (!outcomeUnknown(error)) this.#body = null;
      throw error;
    }
  }
}
