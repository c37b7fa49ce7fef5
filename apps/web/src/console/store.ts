/**
 * Keeps the page's state true: reads a snapshot, follows the stream from the snapshot's position,
 * and reads again where the stream says that something may be missing.
 */

import type { ApiClient } from '../api/client';
import type { Product, StockChange } from '../api/types';
import type { DomainEvent } from '../stream/events';
import { backoffMs } from '../stream/backoff';
import type { GapReason, StreamHandlers, StreamPhase } from '../stream/port';
import {
  applyEvents,
  dropMissing,
  EMPTY_CATALOG,
  mergeProducts,
  mergeStock,
  type Catalog,
} from './catalog';
import { appendOlder, prepend } from './eventLog';

export const PAGE_SIZE = 100;
/** Products read into the table at most; beyond it the page says so. */
export const MAX_ROWS = 1_000;
/** Events are shown in batches, at most one repaint in this time, however many arrive. */
export const FLUSH_MS = 50;
/** A batch is shown at once when it has grown to this. */
const FLUSH_EVENTS = 500;

export interface ConsoleState {
  readonly catalog: Catalog;
  readonly log: readonly DomainEvent[];
  /** Events received since the page was opened. */
  readonly received: number;
  readonly phase: StreamPhase;
  readonly loading: 'first' | 'again' | 'done';
  /** Why the products could not be read; the store keeps trying. */
  readonly loadError: string | null;
  /** More products exist than the table holds. */
  readonly truncated: boolean;
  /** Set when events may have been missed and the products were read again. */
  readonly gap: GapReason | null;
  /** Why the server gives no events; the stream keeps trying. */
  readonly refused: string | null;
}

export const INITIAL_STATE: ConsoleState = {
  catalog: EMPTY_CATALOG,
  log: [],
  received: 0,
  phase: 'connecting',
  loading: 'first',
  loadError: null,
  truncated: false,
  gap: null,
  refused: null,
};

export interface Stream {
  /** Resolves once nothing that happens from then on is missed, if another tab hears it too. */
  listen(): Promise<void>;
  /** Begins at the snapshot's position; null begins with what comes next. */
  open(startAt: string | null): void;
  close(): void;
}

export interface StoreParts {
  readonly api: Pick<ApiClient, 'listProducts'>;
  readonly connect: (handlers: StreamHandlers) => Stream;
  /** The newest stored events, newest first; never rejects. */
  readonly recent?: () => Promise<readonly DomainEvent[]>;
  readonly random?: () => number;
}

interface Snapshot {
  readonly position: string | null;
}

export class ConsoleStore {
  readonly #parts: StoreParts;
  readonly #listeners = new Set<() => void>();
  readonly #stop = new AbortController();
  #state: ConsoleState = INITIAL_STATE;
  #stream: Stream | null = null;
  #pending: DomainEvent[] = [];
  #flushTimer: number | null = null;
  #retryTimer: number | null = null;
  #failures = 0;
  #reading = false;
  #readAgain = false;

  constructor(parts: StoreParts) {
    this.#parts = parts;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  };

  readonly getState = (): ConsoleState => this.#state;

  async start(): Promise<void> {
    void this.#readRecent();
    let position: string | null = null;
    this.#stream = this.#parts.connect({
      onEvent: (event) => {
        this.#take(event);
      },
      onPhase: (phase) => {
        this.#update({ phase });
      },
      onOpen: () => {
        // Without a position, what changed between the snapshot and the connection is in neither.
        if (position === null) void this.reload();
      },
      onGap: (gap) => {
        this.#update({ gap });
        void this.reload();
      },
      onRefused: (refused) => {
        this.#update({ refused });
      },
    });
    await this.#stream.listen();
    if (this.#isStopped()) return;
    const snapshot = await this.#read();
    if (this.#isStopped()) return;
    position = snapshot?.position ?? null;
    this.#stream.open(position);
  }

  stop(): void {
    this.#stop.abort();
    this.#stream?.close();
    if (this.#flushTimer !== null) window.clearTimeout(this.#flushTimer);
    if (this.#retryTimer !== null) window.clearTimeout(this.#retryTimer);
  }

  #isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Reads the products anew; calls during a read make one more read after it, not one each. */
  async reload(): Promise<void> {
    if (this.#reading) this.#readAgain = true;
    else await this.#read();
  }

  dismissGap(): void {
    this.#update({ gap: null });
  }

  /** Shows the caller's own write at once; its event, when it comes, changes nothing. */
  saved(product: Product): void {
    this.#update({ catalog: mergeProducts(this.#state.catalog, [product]) });
  }

  stockChanged(change: StockChange): void {
    this.#update({ catalog: mergeStock(this.#state.catalog, change) });
  }

  async #readRecent(): Promise<void> {
    const older = (await this.#parts.recent?.()) ?? [];
    this.#update({ log: appendOlder(this.#state.log, older) });
  }

  async #read(): Promise<Snapshot | null> {
    if (this.#retryTimer !== null) window.clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#reading = true;
    try {
      const snapshot = await this.#readPages();
      this.#failures = 0;
      return snapshot;
    } catch (error) {
      this.#readFailed(error);
      return null;
    } finally {
      this.#reading = false;
      if (this.#readAgain && !this.#stop.signal.aborted) {
        this.#readAgain = false;
        void this.#read();
      }
    }
  }

  async #readPages(): Promise<Snapshot> {
    const { signal } = this.#stop;
    const before = new Set(this.#state.catalog.products.keys());
    const shown = new Set<string>();
    if (this.#state.loading === 'done') this.#update({ loading: 'again' });
    let page = await this.#parts.api.listProducts(null, PAGE_SIZE, signal);
    // The first page's position is the oldest, so no later page shows less than it.
    const { position } = page;
    for (;;) {
      signal.throwIfAborted();
      for (const product of page.data) shown.add(product.id);
      this.#update({ catalog: mergeProducts(this.#state.catalog, page.data), loadError: null });
      if (!page.hasMore || page.nextCursor === null || shown.size >= MAX_ROWS) break;
      page = await this.#parts.api.listProducts(page.nextCursor, PAGE_SIZE, signal);
    }
    const truncated = page.hasMore;
    const { catalog } = this.#state;
    this.#update({
      catalog: truncated ? catalog : dropMissing(catalog, before, shown),
      truncated,
      loading: 'done',
    });
    return { position };
  }

  #readFailed(error: unknown): void {
    if (this.#stop.signal.aborted) return;
    const loadError = error instanceof Error ? error.message : 'The products could not be read.';
    this.#update({ loadError, loading: this.#state.loading === 'first' ? 'first' : 'done' });
    const wait = backoffMs(this.#failures, (this.#parts.random ?? Math.random)());
    this.#failures += 1;
    this.#retryTimer = window.setTimeout(() => void this.reload(), wait);
  }

  #take(event: DomainEvent): void {
    this.#pending.push(event);
    if (this.#pending.length >= FLUSH_EVENTS) this.#flush();
    else
      this.#flushTimer ??= window.setTimeout(() => {
        this.#flush();
      }, FLUSH_MS);
  }

  #flush(): void {
    if (this.#flushTimer !== null) window.clearTimeout(this.#flushTimer);
    this.#flushTimer = null;
    const arrived = this.#pending;
    this.#pending = [];
    this.#update({
      catalog: applyEvents(this.#state.catalog, arrived),
      log: prepend(this.#state.log, arrived),
      received: this.#state.received + arrived.length,
    });
  }

  #update(change: Partial<ConsoleState>): void {
    if (this.#stop.signal.aborted) return;
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}
