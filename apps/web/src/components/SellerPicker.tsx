import { useId, useState } from 'react';

interface SellerPickerProps {
  readonly seller: string | null;
  readonly sellers: readonly string[];
  readonly onChange: (seller: string | null) => void;
}

/** Any seller can be typed; those in the table are offered. Empty means all sellers. */
export function SellerPicker({ seller, sellers, onChange }: SellerPickerProps) {
  const id = useId();
  const [text, setText] = useState(seller ?? '');
  const commit = (value: string): void => {
    const next = value.trim() === '' ? null : value.trim();
    if (next !== seller) onChange(next);
  };
  return (
    <form
      className="seller"
      onSubmit={(event) => {
        event.preventDefault();
        commit(text);
      }}
    >
      <label htmlFor={id}>Seller</label>
      <input
        id={id}
        list={`${id}-list`}
        value={text}
        maxLength={64}
        autoComplete="off"
        spellCheck={false}
        placeholder="All sellers"
        onChange={(event) => {
          setText(event.target.value);
          // A choice from the list is final; typing is not, until Enter or leaving the field.
          if (!(event.nativeEvent instanceof InputEvent) && sellers.includes(event.target.value)) {
            commit(event.target.value);
          }
        }}
        onBlur={() => {
          commit(text);
        }}
      />
      <datalist id={`${id}-list`}>
        {sellers.map((known) => (
          <option key={known} value={known} />
        ))}
      </datalist>
      {seller !== null && (
        <button
          type="button"
          className="quiet"
          onClick={() => {
            onChange(null);
          }}
        >
          All sellers
        </button>
      )}
    </form>
  );
}
