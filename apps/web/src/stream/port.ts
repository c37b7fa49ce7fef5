/** What the stream's clients need, and what they tell their owner. */

import type { DomainEvent } from './events';

export const HEARTBEAT_MS = 15_000;

export type StreamPhase =
  /** The first connection is being made. */
  | 'connecting'
  /** `stream.open` came; events arrive as they happen. */
  | 'live'
  /** The connection was lost and is being made again. */
  | 'reconnecting'
  /** Closed by `close()`, or by the server for good (204). */
  | 'closed';

export const GAP_REASONS = ['malformed_id', 'unknown_epoch', 'evicted', 'future'] as const;

export type GapReason =
  | (typeof GAP_REASONS)[number]
  /** The server dropped events because this page read too slowly. */
  | 'lagged'
  /** What comes next does not continue what came before, and the server gave no reason. */
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
  /**
   * More parameters, as docs/stream.md names them: `types`, `subject`, `policy`, `data.<path>`; a
   * list gives a parameter several times. Only tabs that ask for the same share a connection.
   */
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
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
export function streamAddress({ url, sellerId, query = {} }: StreamOptions): string {
  const parameters = new URLSearchParams(sellerId === null ? {} : { sellerId });
  for (const [name, values] of Object.entries(query)) {
    for (const value of [values].flat()) parameters.append(name, value);
  }
  // The same wish has one address, and so one shared connection.
  parameters.sort();
  return `${url}/events/stream${parameters.size === 0 ? '' : `?${parameters.toString()}`}`;
}
