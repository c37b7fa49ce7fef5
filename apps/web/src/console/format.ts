/** Numbers and times in the reader's own locale. */

const formats = new Map<string, Intl.NumberFormat>();
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' });

export function money(major: number, currency: string): string {
  let format = formats.get(currency);
  if (format === undefined) {
    try {
      format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
    } catch {
      // An unknown code still deserves its amount.
      return `${major} ${currency}`;
    }
    formats.set(currency, format);
  }
  return format.format(major);
}

export function clockTime(rfc3339: string): string {
  const time = new Date(rfc3339);
  return Number.isNaN(time.valueOf()) ? rfc3339 : TIME.format(time);
}
