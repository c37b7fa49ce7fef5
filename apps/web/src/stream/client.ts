/**
 * A client of `/events/stream` that misses nothing and repeats nothing (ADR 0025).
 *
 * On `fetch`, because the browser's EventSource gives up for ever on any answer but 200, sends no
 * header, and shows no comments, by which a silent connection is told from a dead one. A reconnect
 * sends the last id that a complete block carried. Each event is handed on once. Wherever events may
 * be missing (`onGap`) the owner reads a fresh snapshot. Waits are bounded and jittered in full.
 */

import { BACKOFF_BASE_MS, backoffMs } from './backoff';
import { readGapReason, readReason, readResumed, readRetryMs } from './control';
import { parseEvent } from './events';
import { Newest } from './newest';
import { EventTooLong, SseParser, type SseEvent } from './parser';
import {
  BROWSER,
  HEARTBEAT_MS,
  streamAddress,
  type StreamEnvironment,
  type StreamHandlers,
  type StreamOptions,
  type StreamPhase,
} from './port';

/** A connection that gave no byte for longer is dead, though TCP may not notice for minutes. */
export const WATCHDOG_MS = 2.5 * HEARTBEAT_MS;
const MEDIA_TYPE = 'text/event-stream';
const NO_CONTENT = 204;

/** The server's answer is no event stream. */
class Refusal extends Error {
  override readonly name = 'Refusal';
}

export class StreamClient {
  readonly #options: StreamOptions;
  readonly #handlers: StreamHandlers;
  readonly #environment: StreamEnvironment;
  readonly #newest = new Newest();
  #connection: AbortController | null = null;
  #phase: StreamPhase = 'connecting';
  #lastId = '';
  /** Set once there is something to go on from: the next connection must be resumed. */
  #goesOn = false;
  #openedBefore = false;
  /** Not resumed, and not yet told: the server's own reason may follow. */
  #lost = false;
  /** An event too long was met, and since then none that is new. */
  #stuck = false;
  #retryMs = BACKOFF_BASE_MS;
  #askedMs: number | null = null;
  #attempt = 0;
  #watchdog: number | null = null;
  #reopening: number | null = null;

  constructor(
    options: StreamOptions,
    handlers: StreamHandlers,
    environment: StreamEnvironment = BROWSER,
  ) {
    this.#options = options;
    this.#handlers = handlers;
    this.#environment = environment;
  }

  /** The id from which the next connection goes on; null begins with what comes next. */
  get lastEventId(): string | null {
    return this.#lastId === '' ? null : this.#lastId;
  }

  /** Begins at a stream id, as X-Stream-Position gives it; null begins with what comes next. */
  open(startAt: string | null): void {
    if (this.#phase === 'closed' || this.#connection !== null || this.#reopening !== null) return;
    this.#lastId = startAt ?? '';
    this.#goesOn = startAt !== null;
    this.#connect();
  }

  close(): void {
    this.#drop();
    if (this.#reopening !== null) this.#environment.clearTimer(this.#reopening);
    this.#reopening = null;
    this.#setPhase('closed');
  }

  #connect(): void {
    const connection = new AbortController();
    this.#connection = connection;
    this.#askedMs = null;
    this.#feedWatchdog();
    const isCurrent = (): boolean => this.#connection === connection;
    void this.#read(connection.signal, isCurrent).then(
      (goesOn) => {
        if (!isCurrent()) return;
        if (goesOn) this.#reopen();
        else this.close();
      },
      (error: unknown) => {
        if (!isCurrent()) return;
        this.#stuck ||= error instanceof EventTooLong;
        if (error instanceof Refusal || error instanceof EventTooLong) this.#handlers.onRefused?.(error.message);
        this.#reopen();
      },
    );
  }

  /** One connection to its end; false when the server wants no other. Throws what broke it. */
  async #read(signal: AbortSignal, isCurrent: () => boolean): Promise<boolean> {
    const response = await this.#environment.fetch(streamAddress(this.#options), {
      headers: this.#headers(),
      cache: 'no-store',
      signal,
    });
    if (response.status === NO_CONTENT) return false;
    const mediaType = response.headers.get('Content-Type')?.split(';')[0]?.trim().toLowerCase();
    if (response.status !== 200 || mediaType !== MEDIA_TYPE || response.body === null) {
      throw new Refusal(`HTTP ${response.status}, ${mediaType ?? 'no content type'}`);
    }
    const parser = new SseParser(this.#lastId);
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      // A connection that was replaced may still deliver what it had queued.
      if (done || !isCurrent()) return true;
      this.#feedWatchdog();
      for (const event of parser.feed(value)) {
        this.#tellLost(event.type);
        if (!isCurrent()) return true;
        // Before the event is handed on: whoever closes meanwhile has seen it.
        this.#lastId = event.id;
        this.#take(event);
        if (!isCurrent()) return true;
      }
      this.#lastId = parser.lastEventId;
      this.#retryMs = parser.retryMs ?? this.#retryMs;
    }
  }

  #headers(): Record<string, string> {
    const { token } = this.#options;
    return {
      Accept: MEDIA_TYPE,
      ...(this.#lastId !== '' && { 'Last-Event-ID': this.#lastId }),
      ...(token !== undefined && { Authorization: `Bearer ${token}` }),
    };
  }

  #take({ type, data }: SseEvent): void {
    switch (type) {
      case 'message':
        this.#onMessage(data);
        break;
      case 'stream.open':
        this.#onStreamOpen(readResumed(data));
        break;
      case 'stream.gap':
        this.#handlers.onGap(readGapReason(data));
        break;
      case 'stream.lagged':
        this.#handlers.onGap('lagged');
        break;
      case 'stream.heartbeat':
        this.#handlers.onBeat?.();
        break;
      case 'stream.goodbye':
        this.#askedMs = readRetryMs(data);
        break;
      case 'stream.refused':
        this.#askedMs = readRetryMs(data);
        this.#handlers.onRefused?.(readReason(data));
        break;
      default: // a newer service may say more
    }
  }

  #onMessage(data: string): void {
    const event = parseEvent(data);
    if (event === null || !this.#newest.isNew(event)) return;
    if (this.#stuck) this.#attempt = 0;
    this.#stuck = false;
    this.#handlers.onEvent(event);
  }

  #onStreamOpen(resumed: boolean): void {
    this.#lost = this.#goesOn && !resumed;
    const first = !this.#openedBefore;
    this.#goesOn = true;
    this.#openedBefore = true;
    // The same event would come again at once, as often as the stream opens.
    if (!this.#stuck) this.#attempt = 0;
    this.#handlers.onRefused?.(null);
    this.#setPhase('live');
    if (first) this.#handlers.onOpen?.();
  }

  /** One gap is told once, by the server's reason if the next event gives it. */
  #tellLost(next: string | null): void {
    const lost = this.#lost;
    this.#lost = false;
    if (lost && next !== 'stream.gap') this.#handlers.onGap('not_resumed');
  }

  #reopen(): void {
    this.#drop();
    this.#tellLost(null);
    if (this.#phase === 'closed') return;
    this.#setPhase(this.#openedBefore ? 'reconnecting' : 'connecting');
    const jittered = backoffMs(this.#attempt, this.#environment.random(), this.#retryMs);
    this.#attempt += 1;
    this.#reopening = this.#environment.setTimer(() => {
      this.#reopening = null;
      this.#connect();
    }, this.#askedMs ?? jittered);
  }

  #feedWatchdog(): void {
    if (this.#watchdog !== null) this.#environment.clearTimer(this.#watchdog);
    this.#watchdog = this.#environment.setTimer(() => {
      this.#watchdog = null;
      this.#reopen();
    }, WATCHDOG_MS);
  }

  #drop(): void {
    if (this.#watchdog !== null) this.#environment.clearTimer(this.#watchdog);
    this.#watchdog = null;
    const connection = this.#connection;
    this.#connection = null;
    connection?.abort();
  }

  #setPhase(phase: StreamPhase): void {
    if (this.#phase === phase) return;
    this.#phase = phase;
    this.#handlers.onPhase(phase);
  }
}
