/**
 * An event stream read as the WHATWG standard says, from chunks cut anywhere.
 *
 * Held, with the Python client's parser, against `tests/support/sse_cases.json` at the root: however
 * the bytes are split, the same events come out; what no blank line ended is never given out; an
 * id-only block moves `lastEventId` and fires nothing.
 */

/** Characters of one line, and of one event's data; the service's largest event has 256 KiB. */
export const EVENT_LENGTH_MAX = 4 * 1_024 * 1_024;
/** A `retry` of more digits is taken as this many nines: nobody waits so long. */
const RETRY_DIGITS_MAX = 15;

export interface SseEvent {
  /** `message` for an event without a name. */
  readonly type: string;
  readonly data: string;
  /** The last event id at that moment, '' when there was none. */
  readonly id: string;
}

/** A line, or an event's data, is longer than the bound. */
export class EventTooLong extends Error {
  override readonly name = 'EventTooLong';
}

export class SseParser {
  /** Where to resume: moved by each complete block that gave an id. */
  lastEventId: string;
  /** The reconnection time that the server asked for, null before it did. */
  retryMs: number | null = null;

  readonly #lengthMax: number;
  // It takes one leading byte order mark away, and replaces what is no UTF-8.
  readonly #decoder = new TextDecoder();
  #rest = '';
  #skipLineFeed = false;
  #type = '';
  #data: string[] = [];
  #dataLength = 0;
  #id: string;

  constructor(lastEventId = '', lengthMax = EVENT_LENGTH_MAX) {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
    this.#lengthMax = lengthMax;
  }

  /** Takes the next bytes and gives the events that they complete. Throws EventTooLong. */
  feed(chunk: Uint8Array): SseEvent[] {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (text === '') return [];
    if (this.#skipLineFeed && text.startsWith('\n')) text = text.slice(1);
    // A CR at the very end may be the first half of CR LF: its LF must not end another line.
    this.#skipLineFeed = text === '' ? false : text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? '';
    this.#require(this.#rest.length);
    const events: SseEvent[] = [];
    for (const line of lines) this.#line(line, events);
    return events;
  }

  #line(line: string, events: SseEvent[]): void {
    if (line === '') {
      this.#dispatch(events);
      return;
    }
    this.#require(line.length);
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    this.#field(name, value);
  }

  #field(name: string, value: string): void {
    switch (name) {
      case 'data':
        this.#dataLength += value.length;
        this.#require(this.#dataLength);
        this.#data.push(value);
        break;
      case 'event':
        this.#type = value;
        break;
      case 'id':
        if (!value.includes('\0')) this.#id = value;
        break;
      case 'retry':
        if (/^[0-9]+$/.test(value)) this.retryMs = readDigits(value);
        break;
      default: // unknown fields are ignored
    }
  }

  #dispatch(events: SseEvent[]): void {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      events.push({
        type: this.#type === '' ? 'message' : this.#type,
        data: this.#data.join('\n'),
        id: this.#id,
      });
    }
    this.#type = '';
    this.#data = [];
    this.#dataLength = 0;
  }

  #require(length: number): void {
    if (length > this.#lengthMax) {
      throw new EventTooLong(`a line or an event of more than ${this.#lengthMax} characters`);
    }
  }
}

function readDigits(value: string): number {
  const digits = value.replace(/^0+(?=.)/, '');
  return Number(digits.length <= RETRY_DIGITS_MAX ? digits : '9'.repeat(RETRY_DIGITS_MAX));
}
