import { useEffect, useRef, useState } from 'react';

import { ApiProblem } from '../api/problem';
import { placeErrors, type FieldErrors, type Outcome } from '../console/productForm';

interface Failure<F extends string> {
  readonly errors: FieldErrors<F>;
  readonly general: readonly string[];
  /** The problem's code, when the API answered with one. */
  readonly code: string | null;
}

interface Submission<F extends string> extends Failure<F> {
  readonly busy: boolean;
  readonly submit: <T>(input: Outcome<T, F>, send: (value: T) => Promise<void>) => void;
  readonly clear: () => void;
}

/** Members that a problem without a pointer is about. */
const FIELD_OF_CODE: Readonly<Record<string, string>> = { duplicate_sku: 'sku' };

export function useSubmit<F extends string>(fields: readonly F[]): Submission<F> {
  const none: Failure<F> = { errors: noErrors(), general: [], code: null };
  const [failure, setFailure] = useState(none);
  const [busy, setBusy] = useState(false);
  const mounted = useRef(true);
  useEffect(() => {
    mounted.current = true;
    return () => {
      mounted.current = false;
    };
  }, []);

  const run = async <T>(value: T, send: (value: T) => Promise<void>): Promise<void> => {
    setBusy(true);
    setFailure(none);
    let failed = none;
    try {
      await send(value);
    } catch (error) {
      failed = explain(error, fields);
    }
    if (!mounted.current) return;
    setBusy(false);
    setFailure(failed);
  };

  return {
    ...failure,
    busy,
    submit: (input, send) => {
      if (input.ok) void run(input.value, send);
      else setFailure({ errors: input.errors, general: [], code: null });
    },
    clear: () => {
      setFailure(none);
    },
  };
}

/** The compiler cannot see that an empty object has no wrong member whatever F is. */
function noErrors<F extends string>(): FieldErrors<F> {
  return {} as unknown as FieldErrors<F>;
}

function explain<F extends string>(error: unknown, fields: readonly F[]): Failure<F> {
  if (!(error instanceof ApiProblem)) {
    const text = error instanceof Error ? error.message : 'Something went wrong.';
    return { errors: noErrors(), general: [text], code: null };
  }
  const { problem } = error;
  const field = fields.find((name) => name === FIELD_OF_CODE[problem.code]);
  if (field !== undefined && problem.errors.length === 0) {
    return {
      errors: { [field]: problem.detail } as unknown as FieldErrors<F>,
      general: [],
      code: problem.code,
    };
  }
  const placed = placeErrors(problem, fields);
  return { errors: placed.fields, general: placed.rest, code: problem.code };
}
