import { useId, type ReactNode } from 'react';

export interface ControlProps {
  readonly id: string;
  readonly 'aria-invalid': boolean;
  readonly 'aria-describedby'?: string;
}

interface FieldProps {
  readonly label: string;
  readonly hint?: string;
  readonly error: string | undefined;
  readonly wide?: boolean;
  readonly children: (control: ControlProps) => ReactNode;
}

/** A label, a control, and what is to be said about it, tied together for every reader. */
export function Field({ label, hint, error, wide = false, children }: FieldProps) {
  const id = useId();
  const noteId = `${id}-note`;
  const note = error ?? hint;
  return (
    <div className={wide ? 'field field-wide' : 'field'}>
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        'aria-invalid': error !== undefined,
        ...(note !== undefined && { 'aria-describedby': noteId }),
      })}
      {note !== undefined && (
        <p id={noteId} className={error === undefined ? 'hint' : 'field-error'}>
          {note}
        </p>
      )}
    </div>
  );
}
