import { PRODUCT_STATUSES } from '../api/types';
import type { FieldErrors, ProductField, ProductValues } from '../console/productForm';
import { Field } from './Field';

interface ProductFieldsProps {
  readonly values: ProductValues;
  readonly errors: FieldErrors<ProductField>;
  /** Stock and seller are set once; afterwards stock has a command of its own. */
  readonly creating: boolean;
  readonly onChange: (field: ProductField, value: string) => void;
}

interface TextProps {
  readonly field: ProductField;
  readonly label: string;
  readonly hint?: string;
  readonly wide?: boolean;
  readonly inputMode?: 'decimal' | 'numeric';
  readonly required?: boolean;
}

export function ProductFields({ values, errors, creating, onChange }: ProductFieldsProps) {
  const text = ({ field, label, hint, wide, inputMode, required }: TextProps) => (
    <Field
      label={label}
      error={errors[field]}
      {...(hint !== undefined && { hint })}
      {...(wide !== undefined && { wide })}
    >
      {(control) => (
        <input
          {...control}
          name={field}
          value={values[field]}
          autoComplete="off"
          required={required}
          inputMode={inputMode}
          onChange={(event) => {
            onChange(field, event.target.value);
          }}
        />
      )}
    </Field>
  );
  return (
    <>
      {text({ field: 'name', label: 'Name', wide: true, required: true })}
      {text({ field: 'price', label: 'Price', inputMode: 'decimal', required: true })}
      {text({ field: 'currency', label: 'Currency', hint: 'Three letters, such as USD' })}
      {creating && text({ field: 'stock', label: 'Stock', inputMode: 'numeric' })}
      {creating && text({ field: 'sellerId', label: 'Seller', required: true })}
      {text({ field: 'sku', label: 'SKU' })}
      {text({ field: 'category', label: 'Category' })}
      <Field label="Status" error={errors.status} hint="Only active products can be ordered">
        {(control) => (
          <select
            {...control}
            name="status"
            value={values.status}
            onChange={(event) => {
              onChange('status', event.target.value);
            }}
          >
            {PRODUCT_STATUSES.map((status) => (
              <option key={status} value={status}>
                {status}
              </option>
            ))}
          </select>
        )}
      </Field>
      {text({ field: 'tags', label: 'Tags', hint: 'Separated by commas' })}
      <Field label="Description" error={errors.description} wide>
        {(control) => (
          <textarea
            {...control}
            name="description"
            rows={3}
            value={values.description}
            onChange={(event) => {
              onChange('description', event.target.value);
            }}
          />
        )}
      </Field>
    </>
  );
}
