import { useEffect, useRef, type ReactNode } from 'react';

import type { FieldErrors } from '../console/productForm';

interface FormFrameProps<F extends string> {
  readonly busy: boolean;
  readonly submitLabel: string;
  readonly errors: FieldErrors<F>;
  readonly general: readonly string[];
  readonly onSubmit: () => void;
  readonly onClose: () => void;
  readonly children: ReactNode;
}

/** What the forms share: errors above, the buttons below, the first bad field focused. */
export function FormFrame<F extends string>(props: FormFrameProps<F>) {
  const { busy, submitLabel, errors, general, onSubmit, onClose, children } = props;
  const ref = useRef<HTMLFormElement>(null);
  useEffect(() => {
    ref.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [errors]);
  return (
    <form
      ref={ref}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy) onSubmit();
      }}
    >
      <div role="alert">
        {general.map((text) => (
          <p key={text} className="notice" data-tone="bad">
            {text}
          </p>
        ))}
      </div>
      <div className="fields">{children}</div>
      <div className="dialog-foot">
        <button type="button" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" className="primary" aria-disabled={busy}>
          {busy ? 'Saving…' : submitLabel}
        </button>
      </div>
    </form>
  );
}
