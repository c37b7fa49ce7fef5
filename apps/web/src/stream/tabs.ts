/** What the tabs say to each other, and what of the browser they need for it. */

import type { DomainEvent } from './events';
import { BROWSER, type GapReason, type StreamEnvironment, type StreamPhase } from './port';

/** How far a leader's messages were heard. */
export interface Heard {
  readonly from: string;
  readonly count: number;
}

export type Body =
  | { readonly kind: 'lead'; readonly after: Heard | null }
  | { readonly kind: 'event'; readonly event: DomainEvent; readonly id: string | null }
  | { readonly kind: 'phase'; readonly phase: StreamPhase; readonly id: string | null }
  | { readonly kind: 'gap'; readonly reason: GapReason }
  | { readonly kind: 'refused'; readonly reason: string | null }
  | { readonly kind: 'beat'; readonly id: string | null };

/** What a leader says. */
export type Said =
  /** To a hello: how things stand; it has no number of its own. */
  | ({ readonly kind: 'welcome'; readonly phase: StreamPhase; readonly id: string | null } & Heard)
  | (Body & Heard);

export type Message = { readonly kind: 'hello' } | Said;

/** The part of BroadcastChannel that is used. */
export interface Channel {
  onmessage: ((event: MessageEvent<Message>) => void) | null;
  postMessage(message: Message): void;
  close(): void;
}

/** The part of LockManager that is used. */
export interface Locks {
  request(
    name: string,
    options: { readonly steal?: boolean; readonly signal?: AbortSignal },
    hold: () => Promise<void>,
  ): Promise<void>;
}

export interface SharedEnvironment extends StreamEnvironment {
  readonly openChannel: ((name: string) => Channel) | null;
  readonly locks: Locks | null;
  /** Unique for each leader. */
  readonly newName: () => string;
}

export function sharedBrowser(): SharedEnvironment {
  // Neither is there on a page of plain HTTP from another host than localhost.
  const locks = (navigator as Partial<Navigator>).locks;
  return {
    ...BROWSER,
    openChannel: 'BroadcastChannel' in window ? (name) => new BroadcastChannel(name) : null,
    locks: locks
      ? { request: (name, options, hold) => locks.request(name, options, hold).then(() => undefined) }
      : null,
    newName: () => `${Date.now()}-${Math.random()}`,
  };
}
