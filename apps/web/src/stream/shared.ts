/**
 * One connection for all tabs that want the same stream (ADR 0025).
 *
 * The tabs queue for a Web Lock. Who holds it leads: it has the connection, and passes on all that
 * comes by BroadcastChannel. The others follow, and note the id of each event, so that the next
 * leader goes on where the last one was.
 *
 * - A closed tab's lock is free at once. A frozen one keeps it: a follower that hears nothing for
 *   `SILENCE_MS` steals it. The robbed leader follows, and tells its owner of a gap.
 * - A leader numbers its messages, and begins with how far it had heard the leader before it. A
 *   follower that finds a number missing tells its owner of a gap.
 * - `listen` comes before the owner's snapshot is read: what the leader handed on earlier had been
 *   committed before, so the snapshot shows it, and the rest is heard.
 *
 * Without locks or channels each tab has a connection of its own.
 */

import { StreamClient } from './client';
import type { DomainEvent } from './events';
import { Hearing } from './hearing';
import { Newest } from './newest';
import {
  HEARTBEAT_MS,
  streamAddress,
  type StreamHandlers,
  type StreamOptions,
  type StreamPhase,
} from './port';
import {
  sharedBrowser,
  type Body,
  type Channel,
  type Heard,
  type Locks,
  type Message,
  type Said,
  type SharedEnvironment,
} from './tabs';

/**
 * A leader that is silent for longer is frozen. It beats as often as the server, by a timer of its
 * own, which browsers run once a minute at the least in a tab that nobody sees.
 */
export const SILENCE_MS = 75_000;
/** Followers do not all steal at once. */
export const SILENCE_JITTER_MS = 5_000;
/** So long `listen` waits for a leader's answer. */
export const HELLO_MS = 500;
/** Before a leader was heard at all: one that does not answer for so long is not waited for. */
export const UNANSWERED_MS = 5_000;

export class SharedStream {
  readonly #options: StreamOptions;
  readonly #handlers: StreamHandlers;
  readonly #environment: SharedEnvironment;
  readonly #name: string;
  readonly #newest = new Newest();
  #channel: Channel | null = null;
  /** Set while this tab leads. */
  #client: StreamClient | null = null;
  #self: Heard | null = null;
  #release: (() => void) | null = null;
  #queued: AbortController | null = null;
  readonly #hearing = new Hearing();
  /** Its connection's last id: where this tab would go on. */
  #id: string | null = null;
  /** What `open` was given; undefined before it. */
  #startAt: string | null | undefined = undefined;
  #phase: StreamPhase = 'connecting';
  #wasLive = false;
  #silence: number | null = null;
  #beat: number | null = null;
  #listening: (() => void) | null = null;
  #closed = false;

  constructor(
    options: StreamOptions,
    handlers: StreamHandlers,
    environment: SharedEnvironment = sharedBrowser(),
  ) {
    this.#options = options;
    this.#handlers = handlers;
    this.#environment = environment;
    this.#name = `shopstream ${streamAddress(options)} ${options.principal ?? ''}`;
  }

  /** Call it before the snapshot is read, and `open` with its position after. */
  listen(): Promise<void> {
    const { openChannel, locks } = this.#environment;
    const { token, principal } = this.#options;
    const isShared = token === undefined || principal !== undefined;
    if (openChannel === null || locks === null || !isShared || this.#closed) return Promise.resolve();
    this.#channel = openChannel(this.#name);
    this.#channel.onmessage = ({ data }) => {
      this.#onMessage(data);
    };
    return new Promise((resolve) => {
      const timer = this.#environment.setTimer(resolve, HELLO_MS);
      this.#listening = () => {
        this.#environment.clearTimer(timer);
        this.#listening = null;
        resolve();
      };
      this.#channel?.postMessage({ kind: 'hello' });
      this.#queue(locks);
      this.#feedSilence();
    });
  }

  /** Goes on where the leader is, else begins at the snapshot's position; null: with what comes next. */
  open(startAt: string | null): void {
    if (this.#closed || this.#startAt !== undefined) return;
    this.#startAt = startAt;
    if (this.#client !== null) this.#client.open(startAt);
    else if (this.#channel === null) this.#lead();
    if (this.#phase === 'live') this.#opened();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#listening?.();
    this.#queued?.abort();
    this.#stopSilence();
    this.#disconnect();
    this.#release?.();
    this.#channel?.close();
    this.#handlers.onPhase('closed');
  }

  #queue(locks: Locks): void {
    const queued = new AbortController();
    this.#queued = queued;
    this.#request(locks, { signal: queued.signal });
  }

  #request(locks: Locks, options: { readonly steal?: boolean; readonly signal?: AbortSignal }): void {
    const isWanted = (): boolean => !this.#closed && options.signal?.aborted !== true;
    let held = false;
    const hold = (): Promise<void> => {
      if (!isWanted()) return Promise.resolve();
      held = true;
      this.#lead();
      return new Promise((release) => {
        this.#release = release;
      });
    };
    locks.request(this.#name, options, hold).catch(() => {
      if (held && !this.#closed) this.#robbed(locks);
      else if (isWanted()) this.#alone();
    });
  }

  /** The browser has locks, but not for this page. */
  #alone(): void {
    this.#channel?.close();
    this.#channel = null;
    this.#lead();
  }

  #lead(): void {
    this.#stopSilence();
    this.#self = { from: this.#environment.newName(), count: 0 };
    // Without an id it begins at its own snapshot, after nobody.
    this.#post({ kind: 'lead', after: this.#id === null ? null : this.#hearing.heard });
    this.#setPhase('connecting');
    const client = new StreamClient(this.#options, this.#leading(), this.#environment);
    this.#client = client;
    this.#feedBeat();
    // Without waiting for `open`: the others stand at the id. To begin at this tab's snapshot would leave out what is between.
    const place = this.#id ?? this.#startAt;
    if (place !== undefined) client.open(place);
    this.#listening?.();
  }

  /** What the leader's connection says: to the others, and to this tab's owner. */
  #leading(): StreamHandlers {
    return {
      onEvent: (event) => {
        this.#post({ kind: 'event', event, id: this.#place() });
        this.#take(event);
      },
      onPhase: (phase) => {
        if (this.#client === null) return;
        this.#post({ kind: 'phase', phase, id: this.#place() });
        this.#setPhase(phase);
      },
      onGap: (reason) => {
        this.#post({ kind: 'gap', reason });
        this.#handlers.onGap(reason);
      },
      onRefused: (reason) => {
        this.#post({ kind: 'refused', reason });
        this.#handlers.onRefused?.(reason);
      },
      onBeat: () => {
        this.#feedBeat();
        this.#post({ kind: 'beat', id: this.#place() });
      },
    };
  }

  #place(): string | null {
    return this.#client?.lastEventId ?? null;
  }

  #post(body: Body): void {
    if (this.#channel === null || this.#self === null) return;
    this.#self = { ...this.#self, count: this.#self.count + 1 };
    this.#channel.postMessage({ ...body, ...this.#self });
  }

  /** Another tab took the lock: this one was silent, so it may have been frozen. */
  #robbed(locks: Locks): void {
    this.#id = this.#place() ?? this.#id;
    this.#disconnect();
    this.#self = null;
    this.#hearing.forget();
    this.#release = null;
    this.#setPhase('connecting');
    this.#channel?.postMessage({ kind: 'hello' });
    this.#queue(locks);
    this.#feedSilence();
    this.#handlers.onGap('not_resumed');
  }

  #onMessage(message: Message): void {
    if (this.#closed) return;
    if (this.#self !== null) {
      if (message.kind === 'hello') this.#welcome(this.#self);
      return;
    }
    if (message.kind === 'hello') return;
    const passed = this.#isPassedOver(message);
    const found = this.#hearing.take(message);
    if (found === 'old') return;
    this.#feedSilence();
    this.#hear(message);
    this.#listening?.();
    if (found === 'missed' || passed) this.#handlers.onGap('not_resumed');
  }

  /** Whether this tab has waited at its snapshot, and a leader begins at another one. */
  #isPassedOver(message: Said): boolean {
    if (this.#startAt === undefined || this.#hearing.heard !== null) return false;
    return message.kind === 'lead' && message.after === null;
  }

  #welcome(self: Heard): void {
    this.#channel?.postMessage({ kind: 'welcome', phase: this.#phase, id: this.#place(), ...self });
  }

  #hear(message: Said): void {
    if ('id' in message) this.#id = message.id ?? this.#id;
    switch (message.kind) {
      case 'event':
        this.#take(message.event);
        break;
      case 'welcome':
      case 'phase':
        this.#setPhase(message.phase);
        break;
      case 'gap':
        this.#handlers.onGap(message.reason);
        break;
      case 'refused':
        this.#handlers.onRefused?.(message.reason);
        break;
      case 'lead':
        this.#setPhase('connecting');
        break;
      case 'beat':
        break;
    }
  }

  #take(event: DomainEvent): void {
    if (this.#newest.isNew(event)) this.#handlers.onEvent(event);
  }

  #stopSilence(): void {
    if (this.#silence !== null) this.#environment.clearTimer(this.#silence);
    this.#silence = null;
  }

  /** A leader that waits for its server, perhaps as long as that asked, is not silent. */
  #feedBeat(): void {
    if (this.#beat !== null) this.#environment.clearTimer(this.#beat);
    this.#beat = this.#environment.setTimer(() => {
      this.#feedBeat();
      this.#post({ kind: 'beat', id: this.#place() });
    }, HEARTBEAT_MS);
  }

  #disconnect(): void {
    if (this.#beat !== null) this.#environment.clearTimer(this.#beat);
    this.#beat = null;
    // First: its last phase is not the others'.
    const client = this.#client;
    this.#client = null;
    client?.close();
  }

  #feedSilence(): void {
    this.#stopSilence();
    const silence = this.#hearing.heard === null ? UNANSWERED_MS : SILENCE_MS;
    const wait = silence + this.#environment.random() * SILENCE_JITTER_MS;
    this.#silence = this.#environment.setTimer(() => {
      this.#silence = null;
      const { locks } = this.#environment;
      this.#queued?.abort();
      if (locks !== null) this.#request(locks, { steal: true });
    }, wait);
  }

  #setPhase(given: StreamPhase): void {
    // A new leader's first connection is no first one for a tab that was live.
    const phase = given === 'connecting' && this.#wasLive ? 'reconnecting' : given;
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#handlers.onPhase(phase);
    if (phase === 'live') this.#opened();
  }

  #opened(): void {
    if (this.#startAt === undefined || this.#wasLive) return;
    this.#wasLive = true;
    this.#handlers.onOpen?.();
  }
}
