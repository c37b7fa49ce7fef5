/** Where the services are, as the server of this page says in `/config.json`. */

export interface Config {
  readonly apiUrl: string;
  readonly streamUrl: string;
  readonly analyticsUrl: string;
}

const CONFIG_TIMEOUT_MS = 3_000;
const API_PORT = 3000;
const STREAM_PORT = 3001;
const ANALYTICS_PORT = 8080;

type Place = Pick<Location, 'protocol' | 'hostname'>;

/** The services' usual ports on the host that served the page. */
export function fallbackConfig(place: Place): Config {
  const at = (port: number): string => `${place.protocol}//${place.hostname}:${port}`;
  return { apiUrl: at(API_PORT), streamUrl: at(STREAM_PORT), analyticsUrl: at(ANALYTICS_PORT) };
}

/** Takes the addresses that are there and absolute; the others keep their fallback. */
export function readConfig(raw: unknown, fallback: Config): Config {
  const given = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
  const pick = (key: keyof Config): string => {
    const value = given[key];
    return typeof value === 'string' && URL.canParse(value)
      ? value.replace(/\/+$/, '')
      : fallback[key];
  };
  return { apiUrl: pick('apiUrl'), streamUrl: pick('streamUrl'), analyticsUrl: pick('analyticsUrl') };
}

/** Never rejects: a page served without `/config.json` still finds a system on the usual ports. */
export async function loadConfig(place: Place, fetchImpl: typeof fetch = fetch): Promise<Config> {
  const fallback = fallbackConfig(place);
  try {
    const response = await fetchImpl('/config.json', {
      cache: 'no-store',
      signal: AbortSignal.timeout(CONFIG_TIMEOUT_MS),
    });
    return response.ok ? readConfig(await response.json(), fallback) : fallback;
  } catch {
    return fallback;
  }
}
