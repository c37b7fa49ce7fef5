/** Problem details (RFC 9457) as the API answers them, and what to do when there are none. */

export interface ProblemItem {
  /** A JSON pointer into the body that was sent, for example `/price`. */
  readonly pointer: string;
  readonly code: string;
  readonly detail: string;
}

export interface Problem {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  readonly requestId: string | null;
  readonly errors: readonly ProblemItem[];
}

/** The API answered, and the answer is no. */
export class ApiProblem extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail || problem.title);
    this.name = 'ApiProblem';
    this.problem = problem;
  }
}

/** No answer came, so whether the request took effect is not known. */
export class NoAnswer extends Error {
  constructor(cause: unknown) {
    super('The API did not answer. Check that it is running, then try again.', { cause });
    this.name = 'NoAnswer';
  }
}

function text(value: unknown, fallback: string): string {
  return typeof value === 'string' && value !== '' ? value : fallback;
}

function readItem(raw: unknown): ProblemItem[] {
  if (typeof raw !== 'object' || raw === null) return [];
  const item = raw as Record<string, unknown>;
  return [
    {
      pointer: text(item.pointer, ''),
      code: text(item.code, 'invalid'),
      detail: text(item.detail, 'This value was not accepted.'),
    },
  ];
}

/** Reads any body, a proxy's HTML error page too, into a problem that can be shown. */
export function readProblem(status: number, raw: unknown, requestId: string | null): Problem {
  const body = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
  const title = text(body.title, `The API answered ${status}.`);
  const errors = body.errors;
  return {
    status,
    code: text(body.code, 'unknown'),
    title,
    detail: text(body.detail, title),
    requestId: text(body.requestId, requestId ?? '') || null,
    errors: Array.isArray(errors) ? errors.flatMap(readItem) : [],
  };
}

/**
 * True when the same request with the same idempotency key must be sent again, because the first
 * one may still have taken effect or may yet be under way.
 */
export function outcomeUnknown(error: unknown): boolean {
  if (error instanceof NoAnswer) return true;
  if (!(error instanceof ApiProblem)) return false;
  const { status, code } = error.problem;
  return status >= 500 || code === 'idempotency_key_in_flight';
}
