import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

import { EventTooLong, SseParser } from '../src/stream/parser';

interface Case {
  readonly name: string;
  readonly stream: string;
  readonly events: readonly (readonly [string, string, string])[];
  readonly id: string;
  readonly retry: number | null;
}

interface Bound {
  readonly name: string;
  readonly stream: string;
  readonly max: number;
}

// The same file that holds the Python client's parser.
const FILE = resolve(import.meta.dirname, '../../../tests/support/sse_cases.json');
const { cases, bounds } = JSON.parse(readFileSync(FILE, 'utf8')) as {
  readonly cases: readonly Case[];
  readonly bounds: readonly Bound[];
};

function bytes(stream: string): Uint8Array {
  return Uint8Array.from(stream, (character) => character.charCodeAt(0));
}

/** The stream whole, byte by byte, and in two pieces cut at every place. */
function cuts(stream: Uint8Array): Uint8Array[][] {
  const single = Array.from(stream, (_, at) => stream.slice(at, at + 1));
  const two = Array.from(stream, (_, at) => [stream.slice(0, at), stream.slice(at)]);
  return [[stream], single, ...two];
}

describe('the parser', () => {
  it('is held against a file that is not empty', () => {
    expect(cases.length).toBeGreaterThan(40);
    expect(bounds.length).toBeGreaterThan(2);
  });

  it.each(cases)('reads as the standard says: $name', ({ stream, events, id, retry }) => {
    for (const pieces of cuts(bytes(stream))) {
      const parser = new SseParser();
      const found = pieces.flatMap((piece) => parser.feed(piece));
      expect(found.map((event) => [event.type, event.data, event.id])).toEqual(events);
      expect([parser.lastEventId, parser.retryMs]).toEqual([id, retry]);
    }
  });

  it.each(bounds)('refuses what is above its bound: $name', ({ stream, max }) => {
    for (const size of [1, 7, stream.length]) {
      const parser = new SseParser('', max);
      expect(() => {
        for (let at = 0; at < stream.length; at += size) {
          parser.feed(bytes(stream.slice(at, at + size)));
        }
      }).toThrow(EventTooLong);
    }
  });

  it('never refuses short events, however many they are', () => {
    const parser = new SseParser('', 20);
    expect(parser.feed(bytes('data: 1234567890\n\n'.repeat(100)))).toHaveLength(100);
  });

  it('keeps the id it was given until the stream gives another', () => {
    const parser = new SseParser('1');
    expect(parser.feed(bytes('data: a\n\n'))).toMatchObject([{ id: '1' }]);
    expect(parser.lastEventId).toBe('1');
  });
});
