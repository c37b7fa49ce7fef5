/**
 * A client of `/events/stream` that misses nothing and repeats nothing (ADR 0025).
 *
 * On `fetch`, because the browser's EventSource gives up for ever on any answer but 200, sends no
 * header, and shows no comments, by which a silent connection is told from a dead one. A reconnect
 * sends the last id that a complete block carried. Each event is handed on once. Wherever events may
 * be missing (`onGap`) the owner reads a fresh snapshot. Waits are bounded and jittered in full.
 */

import { BACKOFF_BASE_MS, backoffMs } from './backoff';
import { parseEvent, type DomainEvent } from './events';
import { Newest } from './newest';
import { EventTooLong, SseParser, type SseEvent } from './parser';

export const HEARTBEAT_MS = 15_000;
/** A connection that gave no byte for longer is dead, though TCP may not notice for minutes. */
export const WATCHDOG_MS = 2.5 * HEARTBEAT_MS;
/** What a goodbye or a refusal asks for is waited up to here. */
export const ASKED_MAX_MS = 120_000;
const MEDIA_TYPE = 'text/event-stream';
const NO_CONTENT = 204;

export type StreamPhase =
  /** The first connection is being made. */
  | 'connecting'
  /** `stream.open` came; events arrive as they happen. */
  | 'live'
  /** The connection was lost and is being made again. */
  | 'reconnecting'
  /** Closed by `close()`, or by the server for good (204). */
  | 'closed';

const GAP_REASONS = ['malformed_id', 'unknown_epoch', 'evicted', 'future'] as const;

export type GapReason =
  | (typeof GAP_REASONS)[number]
  /** The server dropped events because this page read too slowly. */
  | 'lagged'
  /** What comes next does not continue what came before. */
  | 'not_resumed';

export interface StreamHandlers {
  readonly onEvent: (event: DomainEvent) => void;
  readonly onPhase: (phase: StreamPhase) => void;
  /** The first `stream.open` of this client, before any event. */
  readonly onOpen?: () => void;
  readonly onGap: (reason: GapReason) => void;
  /** The server gives no stream now, and why; the client keeps trying. Null once it gives one. */
  readonly onRefused?: (reason: string | null) => void;
  /** The server's heartbeat. */
  readonly onBeat?: () => void;
}

export interface StreamOptions {
  /** The address of the notifications service, without a path. */
  readonly url: string;
  readonly sellerId: string | null;
  /** Sent as `Authorization: Bearer …`, never in the address, which ends up in logs. */
  readonly token?: string;
  /** Whom the token is of: only tabs of the same one share a connection. */
  readonly principal?: string;
}

export interface StreamEnvironment {
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
  readonly setTimer: (run: () => void, ms: number) => number;
  readonly clearTimer: (timer: number) => void;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}

export const BROWSER: StreamEnvironment = {
  fetch: (url, init) => fetch(url, init),
  setTimer: (run, ms) => window.setTimeout(run, ms),
  clearTimer: (timer) => {
    window.clearTimeout(timer);
  },
  random: Math.random,
};

/** The stream's address, without a place to begin at. */
export function streamAddress({ url, sellerId }: StreamOptions): string {
  const query = sellerId === null ? '' : `?${new URLSearchParams({ sellerId }).toString()}`;
  return `${url}/events/stream${query}`;
}

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
        this.#onStreamOpen(readObject(data).resumed === true);
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
        this.#handlers.onRefused?.(String(readObject(data).reason));
        break;
      default: // a newer service may say more
    }
  }

  #onMessage(data: string): void {
    const event = parseEvent(data);
    if (event !== null && this.#newest.isNew(event)) this.#handlers.onEvent(event);
  }

  #onStreamOpen(resumed: boolean): void {
    const lost = this.#goesOn && !resumed;
    const first = !this.#openedBefore;
    this.#goesOn = true;
    this.#openedBefore = true;
    this.#attempt = 0;
    this.#handlers.onRefused?.(null);
    this.#setPhase('live');
    if (first) this.#handlers.onOpen?.();
    if (lost) this.#handlers.onGap('not_resumed');
  }

  #reopen(): void {
    this.#drop();
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

function readObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function readGapReason(text: string): GapReason {
  const reason = readObject(text).reason;
  return GAP_REASONS.find((known) => known === reason) ?? 'not_resumed';
}

function readRetryMs(text: string): number {
  const retryMs = readObject(text).retryMs;
  const asked = typeof retryMs === 'number' && retryMs >= 0 ? retryMs : BACKOFF_BASE_MS;
  return Math.min(asked, ASKED_MAX_MS);
}
