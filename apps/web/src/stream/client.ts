/**
 * A client of `/events/stream` that misses nothing and repeats nothing.
 *
 * The browser's own EventSource reconnects by itself and sends Last-Event-ID. What it does not do
 * is done here: it gives up for ever on any answer but 200, it cannot tell a silent connection from
 * a dead one, and it knows nothing of the stream's named events. Each event is handed on once, by
 * its event id. Where events may be missing (`onGap`), the owner reads a fresh snapshot.
 */

import { parseEvent, type DomainEvent } from './events';
import { RecentIds } from './recentIds';

/** The server beats every 15 s; two missed beats and some slack mean a dead connection. */
export const WATCHDOG_MS = 40_000;
export const BACKOFF_BASE_MS = 1_000;
export const BACKOFF_MAX_MS = 30_000;
export const BACKOFF_MIN_MS = 250;
/** A goodbye asks for a pause; no server may make the page wait longer than this. */
export const GOODBYE_MAX_MS = 30_000;
const REMEMBERED_IDS = 10_000;
const CLOSED = 2;

export type StreamPhase =
  /** The first connection is being made. */
  | 'connecting'
  /** `stream.open` came; events arrive as they happen. */
  | 'live'
  /** The connection was lost and is being made again. */
  | 'reconnecting'
  /** Closed by `close()`. */
  | 'closed';

export type GapReason =
  | 'malformed_id'
  | 'unknown_epoch'
  | 'evicted'
  | 'future'
  /** The server dropped events because this page read too slowly. */
  | 'lagged'
  /** The connection came back without continuing where it was. */
  | 'not_resumed';

export interface StreamHandlers {
  readonly onEvent: (event: DomainEvent) => void;
  readonly onPhase: (phase: StreamPhase) => void;
  /** The first `stream.open` of this client, before any event. */
  readonly onOpen?: () => void;
  readonly onGap: (reason: GapReason) => void;
}

export interface StreamOptions {
  /** The address of the notifications service, without a path. */
  readonly url: string;
  readonly sellerId: string | null;
  /** A stream id, as X-Stream-Position gives it, to begin at; null begins with what comes next. */
  readonly startAt: string | null;
}

/** The part of EventSource that is used, so that tests can stand in for it. */
export interface Source {
  readonly readyState: number;
  addEventListener(type: string, listener: (event: MessageEvent<string>) => void): void;
  close(): void;
}

export interface StreamEnvironment {
  readonly createSource: (url: string) => Source;
  readonly setTimer: (run: () => void, ms: number) => number;
  readonly clearTimer: (timer: number) => void;
  /** 0 ≤ x < 1. */
  readonly random: () => number;
}

const BROWSER: StreamEnvironment = {
  createSource: (url) => new EventSource(url),
  setTimer: (run, ms) => window.setTimeout(run, ms),
  clearTimer: (timer) => {
    window.clearTimeout(timer);
  },
  random: Math.random,
};

/** Full jitter: pages that lost their server together do not come back together. */
export function backoffMs(attempt: number, random: number): number {
  const ceiling = Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** attempt);
  return Math.max(BACKOFF_MIN_MS, Math.round(random * ceiling));
}

export class StreamClient {
  readonly #options: StreamOptions;
  readonly #handlers: StreamHandlers;
  readonly #environment: StreamEnvironment;
  readonly #seen = new RecentIds(REMEMBERED_IDS);
  #source: Source | null = null;
  #phase: StreamPhase = 'connecting';
  #lastId: string | null;
  #openedBefore = false;
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
    this.#lastId = options.startAt;
  }

  /** The id from which the next connection goes on. */
  get lastEventId(): string | null {
    return this.#lastId;
  }

  open(): void {
    const idle = this.#source === null && this.#reopening === null;
    if (this.#phase !== 'closed' && idle) this.#connect();
  }

  close(): void {
    this.#dropSource();
    if (this.#reopening !== null) this.#environment.clearTimer(this.#reopening);
    this.#reopening = null;
    this.#setPhase('closed');
  }

  #address(): string {
    const query = new URLSearchParams();
    if (this.#options.sellerId !== null) query.set('sellerId', this.#options.sellerId);
    if (this.#lastId !== null) query.set('lastEventId', this.#lastId);
    const text = query.toString();
    return `${this.#options.url}/events/stream${text === '' ? '' : `?${text}`}`;
  }

  #connect(): void {
    const source = this.#environment.createSource(this.#address());
    this.#source = source;
    this.#feedWatchdog();
    const on = (type: string, run: (event: MessageEvent<string>) => void): void => {
      source.addEventListener(type, (event) => {
        // A source that was replaced may still deliver what it had queued.
        if (this.#source !== source) return;
        run(event);
      });
    };
    const onFrame = (type: string, run: (data: string) => void): void => {
      on(type, (event) => {
        this.#feedWatchdog();
        if (event.lastEventId !== '') this.#lastId = event.lastEventId;
        run(event.data);
      });
    };
    onFrame('message', (data) => {
      this.#onMessage(data);
    });
    onFrame('stream.open', (data) => {
      this.#onStreamOpen(data);
    });
    onFrame('stream.gap', (data) => {
      this.#handlers.onGap(readGapReason(data));
    });
    onFrame('stream.lagged', () => {
      this.#handlers.onGap('lagged');
    });
    onFrame('stream.heartbeat', () => undefined);
    onFrame('stream.goodbye', (data) => {
      this.#reopenAfter(Math.min(readRetryMs(data), GOODBYE_MAX_MS));
    });
    on('error', () => {
      this.#onError(source);
    });
  }

  #onMessage(data: string): void {
    const event = parseEvent(data);
    if (event !== null && this.#seen.add(event.id)) this.#handlers.onEvent(event);
  }

  #onStreamOpen(data: string): void {
    const first = !this.#openedBefore;
    const expectedToResume = !first || this.#options.startAt !== null;
    this.#openedBefore = true;
    this.#attempt = 0;
    this.#setPhase('live');
    if (first) this.#handlers.onOpen?.();
    if (expectedToResume && readObject(data).resumed !== true) {
      this.#handlers.onGap('not_resumed');
    }
  }

  #onError(source: Source): void {
    if (source.readyState === CLOSED) {
      // EventSource has given up (an answer other than 200); it would never try again.
      this.#reopenAfter(backoffMs(this.#attempt, this.#environment.random()));
      this.#attempt += 1;
    } else {
      this.#lost();
    }
  }

  #reopenAfter(ms: number): void {
    this.#dropSource();
    this.#lost();
    this.#reopening = this.#environment.setTimer(() => {
      this.#reopening = null;
      this.#connect();
    }, ms);
  }

  #lost(): void {
    this.#setPhase(this.#openedBefore ? 'reconnecting' : 'connecting');
  }

  #feedWatchdog(): void {
    if (this.#watchdog !== null) this.#environment.clearTimer(this.#watchdog);
    this.#watchdog = this.#environment.setTimer(() => {
      this.#watchdog = null;
      this.#reopenAfter(0);
    }, WATCHDOG_MS);
  }

  #dropSource(): void {
    if (this.#watchdog !== null) this.#environment.clearTimer(this.#watchdog);
    this.#watchdog = null;
    this.#source?.close();
    this.#source = null;
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

const GAP_REASONS = ['malformed_id', 'unknown_epoch', 'evicted', 'future'] as const;

function readGapReason(text: string): GapReason {
  const reason = readObject(text).reason;
  return GAP_REASONS.find((known) => known === reason) ?? 'not_resumed';
}

function readRetryMs(text: string): number {
  const retryMs = readObject(text).retryMs;
  return typeof retryMs === 'number' && retryMs >= 0 ? retryMs : BACKOFF_BASE_MS;
}
