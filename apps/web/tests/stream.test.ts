import { describe, expect, it } from 'vitest';

import { backoffMs } from '../src/stream/backoff';
import { StreamClient, WATCHDOG_MS } from '../src/stream/client';
import { ASKED_MAX_MS } from '../src/stream/control';
import { parseEvent, type DomainEvent } from '../src/stream/events';
import { Newest } from '../src/stream/newest';
import { EVENT_LENGTH_MAX } from '../src/stream/parser';
import {
  HEARTBEAT_MS,
  type GapReason,
  type StreamOptions,
  type StreamPhase,
} from '../src/stream/port';
import { FakeEnvironment, product, productEvent, settled, stockEvent, wire } from './fakes';

async function connected(
  startAt: string | null = null,
  options: Partial<StreamOptions> = {},
  environment = new FakeEnvironment(),
) {
  const events: DomainEvent[] = [];
  const phases: StreamPhase[] = [];
  const gaps: GapReason[] = [];
  const refused: (string | null)[] = [];
  let opened = 0;
  let beats = 0;
  const client = new StreamClient(
    { url: 'http://stream', sellerId: null, ...options },
    {
      onEvent: (event) => events.push(event),
      onPhase: (phase) => phases.push(phase),
      onOpen: () => {
        opened += 1;
      },
      onGap: (gap) => gaps.push(gap),
      onRefused: (reason) => refused.push(reason),
      onBeat: () => {
        beats += 1;
      },
    },
    environment,
  );
  client.open(startAt);
  await settled();
  return {
    client,
    environment,
    events,
    phases,
    gaps,
    refused,
    opened: () => opened,
    beats: () => beats,
  };
}

describe('the stream client', () => {
  it('test_e22: shows place and token in headers, never in the address', async () => {
    const { environment } = await connected('pos-1', { sellerId: 'seller 1', token: 't0' });
    expect(environment.newest.url).toBe('http://stream/events/stream?sellerId=seller+1');
    expect(environment.newest.lastEventId).toBe('pos-1');
    expect(environment.newest.headers.get('Authorization')).toBe('Bearer t0');
  });

  it('is live once stream.open has come, not before', async () => {
    const { environment, phases, opened } = await connected();
    await environment.newest.send('retry: 2000\n: shopstream\n\n');
    expect(phases).toEqual([]);
    await environment.newest.open(false);
    expect(phases).toEqual(['live']);
    expect(opened()).toBe(1);
  });

  it('hands on each event once, however often it comes, over reconnects too', async () => {
    const { environment, events } = await connected();
    const event = productEvent(product({ version: 2 }));
    await environment.newest.emit('message', wire(event), 'a');
    await environment.newest.emit('message', wire(productEvent(product({ version: 1 }))), 'a');
    await environment.newest.cut();
    await environment.pass(1_000);
    await environment.newest.emit('message', wire(event), 'a');
    expect(events.map(({ id }) => id)).toEqual([event.id]);
  });

  it('skips what is not an event and goes on', async () => {
    const { environment, events } = await connected();
    await environment.newest.emit('message', '{"half":');
    await environment.newest.emit('stream.news', { of: 'a newer service' });
    await environment.newest.emit('message', wire(productEvent(product())));
    expect(events).toHaveLength(1);
  });

  it('resumes at the last id that a whole block gave, without an event too', async () => {
    const { client, environment, phases } = await connected();
    await environment.newest.open(false);
    await environment.newest.send('id: 7\n\nid: 8\ndata: {}\n');
    expect(client.lastEventId).toBe('7');
    await environment.newest.cut();
    expect(phases).toEqual(['live', 'reconnecting']);
    await environment.pass(1_000);
    expect(environment.newest.lastEventId).toBe('7');
    expect(environment.connections).toHaveLength(2);
  });

  it('connects again after an orderly end, too', async () => {
    const { environment } = await connected();
    await environment.newest.open(false);
    await environment.newest.end();
    await environment.pass(1_000);
    expect(environment.connections).toHaveLength(2);
  });

  it('waits longer from failure to failure, and the server’s retry is where that begins', async () => {
    const { environment } = await connected();
    await environment.newest.send('retry: 4000\n\n');
    await environment.newest.open(false);
    environment.answers.push(new TypeError('refused'), new TypeError('refused'));
    await environment.newest.cut();
    const waits: number[] = [];
    let waited = 0;
    while (waits.length < 3) {
      const before = environment.connections.length;
      await environment.pass(500);
      waited += 500;
      if (environment.connections.length > before) {
        waits.push(waited);
        waited = 0;
      }
    }
    expect(waits).toEqual([2_000, 4_000, 8_000]);
    await environment.newest.open(true);
    await environment.newest.cut();
    await environment.pass(1_999);
    expect(environment.connections).toHaveLength(4);
    await environment.pass(1);
    expect(environment.connections).toHaveLength(5);
  });

  it('hands nothing on once its owner has closed it', async () => {
    const environment = new FakeEnvironment();
    const events: DomainEvent[] = [];
    const client: StreamClient = new StreamClient(
      { url: 'http://stream', sellerId: null },
      {
        onEvent: (event) => {
          events.push(event);
          client.close();
        },
        onPhase: () => undefined,
        onGap: () => undefined,
      },
      environment,
    );
    client.open(null);
    await settled();
    const frame = (version: number) => `data: ${wire(productEvent(product({ version })))}\n\n`;
    await environment.newest.send(frame(1) + frame(2));
    expect(events).toHaveLength(1);
  });

  it('says aloud that an event is longer than it takes, and comes back', async () => {
    const { environment, refused } = await connected();
    await environment.newest.send(`data: ${'x'.repeat(EVENT_LENGTH_MAX)}`);
    expect(refused).toEqual([expect.stringContaining('more than')]);
    await environment.pass(500);
    expect(environment.connections).toHaveLength(2);
  });

  it('keeps waiting longer at an event that is too long, until one is new', async () => {
    const { environment } = await connected();
    const tooLong = async (): Promise<void> => {
      await environment.newest.open(true);
      await environment.newest.send(`data: ${'x'.repeat(EVENT_LENGTH_MAX)}`);
    };
    for (const wait of [500, 1_000, 2_000]) {
      const before = environment.connections.length;
      await tooLong();
      await environment.pass(wait - 1);
      expect(environment.connections).toHaveLength(before);
      await environment.pass(1);
      expect(environment.connections).toHaveLength(before + 1);
    }
    await environment.newest.open(true);
    await environment.newest.emit('message', wire(productEvent(product())), 'after');
    await environment.newest.cut();
    await environment.pass(500);
    expect(environment.connections).toHaveLength(5);
    // And from here on a stream that opens is a stream that works.
    await environment.newest.cut();
    await environment.pass(1_000);
    await environment.newest.open(true);
    await environment.newest.cut();
    await environment.pass(500);
    expect(environment.connections).toHaveLength(7);
  });

  it('test_e09: opens anew when no byte comes; a comment and a named beat are bytes', async () => {
    const { environment, beats } = await connected();
    await environment.newest.open(false);
    await environment.pass(WATCHDOG_MS - 1);
    await environment.newest.send(': heartbeat\n\n');
    await environment.pass(WATCHDOG_MS - 1);
    const before = beats();
    await environment.newest.emit('stream.heartbeat', { time: 'x' });
    expect(beats()).toBe(before + 1);
    await environment.pass(WATCHDOG_MS - 1);
    expect(environment.connections).toHaveLength(1);
    await environment.pass(1);
    expect(environment.connections[0]?.closed).toBe(true);
    await environment.pass(500);
    expect(environment.connections).toHaveLength(2);
    expect(WATCHDOG_MS).toBe(2.5 * HEARTBEAT_MS);
  });

  it('watches a connection that never answers', async () => {
    const environment = new FakeEnvironment();
    environment.answers.push(new Promise(() => undefined));
    await connected(null, {}, environment);
    await environment.pass(WATCHDOG_MS);
    await environment.pass(500);
    expect(environment.connections.map(({ closed }) => closed)).toEqual([true, false]);
  });

  it.each([
    ['stream.goodbye', {}],
    ['stream.refused', { reason: 'address' }],
  ])('waits as long as a %s asks, within its own bound', async (name, more) => {
    const { environment, phases } = await connected();
    await environment.newest.open(false);
    await environment.newest.emit(name, { ...more, retryMs: 1_234 });
    await environment.newest.end();
    expect(phases.at(-1)).toBe('reconnecting');
    await environment.pass(1_233);
    expect(environment.connections).toHaveLength(1);
    await environment.pass(1);
    expect(environment.connections).toHaveLength(2);
    await environment.newest.emit(name, { ...more, retryMs: 86_400_000 });
    await environment.newest.end();
    await environment.pass(ASKED_MAX_MS);
    expect(environment.connections).toHaveLength(3);
    await environment.newest.open(true);
    await environment.newest.cut();
    await environment.pass(500);
    expect(environment.connections).toHaveLength(4);
  });

  it.each([
    ['an error page', new Response('<h1>', { status: 502 }), 'HTTP 502, text/plain'],
    ['a refusal', new Response('no', { status: 403 }), 'HTTP 403, text/plain'],
    [
      'a page that only looks well',
      new Response('data: 1\n\n', { headers: { 'Content-Type': 'text/html' } }),
      'HTTP 200, text/html',
    ],
  ])('test_e08: says aloud that it got %s, and comes back', async (_, answer, reason) => {
    const environment = new FakeEnvironment();
    environment.answers.push(answer);
    const { refused, events } = await connected(null, {}, environment);
    expect(refused).toEqual([reason]);
    await environment.pass(500);
    await environment.newest.open(false);
    expect(refused).toEqual([reason, null]);
    expect(events).toEqual([]);
  });

  it('names the reason of a refusal by the service', async () => {
    const { environment, refused } = await connected();
    await environment.newest.emit('stream.refused', { reason: 'principal', retryMs: 1 });
    expect(refused).toEqual(['principal']);
  });

  it('is closed for good by 204', async () => {
    const environment = new FakeEnvironment();
    environment.answers.push(new Response(null, { status: 204 }));
    const { phases } = await connected(null, {}, environment);
    expect(phases).toEqual(['closed']);
    expect(environment.pendingTimers).toBe(0);
  });

  it('ignores what a replaced connection still delivers', async () => {
    const { environment, events } = await connected();
    const old = environment.newest;
    const arriving = old.emit('message', wire(productEvent(product())), 'late');
    void environment.pass(WATCHDOG_MS);
    await arriving;
    expect(events).toEqual([]);
  });

  it.each(['malformed_id', 'unknown_epoch', 'evicted', 'future'])(
    'reports a gap: %s',
    async (reason) => {
      const { environment, gaps } = await connected();
      await environment.newest.emit('stream.gap', { reason, from: null, to: null });
      expect(gaps).toEqual([reason]);
    },
  );

  it('treats dropped events and a lost place as gaps', async () => {
    const { environment, gaps } = await connected();
    await environment.newest.open(false);
    expect(gaps).toEqual([]);
    await environment.newest.emit('stream.lagged', { dropped: 3 });
    await environment.newest.cut();
    await environment.pass(500);
    await environment.newest.open(false);
    await environment.newest.emit('stream.heartbeat', { time: 'x' });
    expect(gaps).toEqual(['lagged', 'not_resumed']);
  });

  it('tells a place that was lost once, by the server’s reason', async () => {
    const { environment, gaps } = await connected('pos');
    await environment.newest.open(false);
    await environment.newest.send('id: now\n\n');
    await environment.newest.emit('stream.gap', { reason: 'malformed_id', from: null, to: 'now' });
    await environment.newest.emit('stream.heartbeat', { time: 'x' });
    await environment.newest.cut();
    expect(gaps).toEqual(['malformed_id']);
  });

  it('tells of a place that was lost without a reason before any event, or at the end', async () => {
    const { client, environment, events, gaps } = await connected('pos');
    await environment.newest.open(false);
    await environment.newest.send('id: now\n\n');
    await environment.newest.cut();
    expect(gaps).toEqual(['not_resumed']);
    await environment.pass(500);
    await environment.newest.open(false);
    let before = -1;
    gaps.push = (...reasons) => {
      before = events.length;
      client.close();
      return reasons.length;
    };
    await environment.newest.emit('message', wire(productEvent(product())), 'b');
    expect([before, events.length, client.lastEventId]).toEqual([0, 0, 'now']);
  });

  it('opens no connection for an owner that closes it at a gap', async () => {
    const { client, environment, gaps, phases } = await connected('pos');
    await environment.newest.open(false);
    gaps.push = () => {
      client.close();
      return 0;
    };
    await environment.newest.cut();
    expect(phases).toEqual(['live', 'closed']);
    expect(environment.pendingTimers).toBe(0);
  });

  it('asks for what its query says, a list as one parameter several times', async () => {
    const { environment } = await connected(null, {
      sellerId: 's1',
      query: { types: 'order.*', policy: 'latest', 'data.stock': ['ge.1', 'le.5'] },
    });
    expect(environment.newest.url).toBe(
      'http://stream/events/stream?data.stock=ge.1&data.stock=le.5&policy=latest&sellerId=s1&types=order.*',
    );
  });

  it('leaves nothing behind when it is closed', async () => {
    const { client, environment, phases } = await connected();
    await environment.newest.cut();
    client.close();
    expect(environment.pendingTimers).toBe(0);
    client.open(null);
    await environment.pass(60_000);
    expect(environment.connections).toHaveLength(1);
    expect(phases.at(-1)).toBe('closed');
  });
});

describe('backoff', () => {
  it('is jittered in full, grows to a bound and is never nothing', () => {
    expect(backoffMs(0, 0)).toBe(100);
    expect(backoffMs(3, 0.999)).toBe(7_992);
    expect(backoffMs(3, 0.25, 2_000)).toBe(4_000);
    expect(backoffMs(5_000, 1)).toBe(30_000);
    expect(backoffMs(0, 1, 86_400_000)).toBe(30_000);
  });
});

describe('reading an event', () => {
  it('takes the attributes as CloudEvents names them', () => {
    const event = productEvent(product({ version: 3 }));
    expect(parseEvent(wire(event))).toEqual(event);
  });

  it('keeps a type it does not know, for the list', () => {
    const raw = wire(productEvent(product())).replace('product.updated', 'user.registered');
    expect(parseEvent(raw)).toMatchObject({ family: 'other', type: 'user.registered' });
  });

  it.each(['', 'null', '[]', '{}', '{"id":"1","type":"x","subject":"s","time":"t","data":{}}'])(
    'refuses %j',
    (text) => {
      expect(parseEvent(text)).toBeNull();
    },
  );
});

describe('the newest sequences', () => {
  it('tell a repeat within each topic and subject', () => {
    const newest = new Newest();
    const second = productEvent(product({ version: 2 }));
    const found = [
      second,
      productEvent(product({ version: 1 })),
      stockEvent('p1', 5, 1),
      stockEvent('p1', 4, 1, 'product.low_stock'),
      productEvent(product({ id: 'p2', version: 1 })),
      productEvent(product({ version: 3 })),
      second,
    ].map((event) => newest.isNew(event));
    expect(found).toEqual([true, false, true, false, true, true, false]);
  });

  it('go by the event id where the type is not known', () => {
    const newest = new Newest();
    const raw = wire(productEvent(product())).replace('product.updated', 'user.registered');
    const [one, other] = [parseEvent(raw), parseEvent(raw.replace(/event-\d+/, 'another'))];
    if (one === null || other === null) throw new Error('no events');
    expect([one, one, other].map((event) => newest.isNew(event))).toEqual([true, false, true]);
  });

  it('forget the aggregate not heard of for longest, beyond their bound', () => {
    const newest = new Newest(2);
    const of = (id: string): boolean => newest.isNew(productEvent(product({ id })));
    expect([of('a'), of('b'), of('a'), of('c'), of('a'), of('b')]).toEqual([
      true,
      true,
      false,
      true,
      false,
      true,
    ]);
  });
});
