// What the users of the load gate do; run by k6, configured by variables (see k6.py).
//
// A user is a seller who also buys: one request of the mix below, then a pause. All orders are of
// the user's own products, so the user knows what has to succeed: whatever is not answered as the
// contract says for such a caller is an error. Acknowledged writes are printed, a line of JSON
// each; they become the journal that `verify` holds against the database.
import http from 'k6/http'
import exec from 'k6/execution'
import { check, randomSeed, sleep } from 'k6'

const api = __ENV.API
const pauseSeconds = Number(__ENV.PAUSE_SECONDS)
const judged = __ENV.JUDGED === 'true'
const productsMax = 20

export const options = {
  scenarios: {
    users: {
      executor: 'ramping-vus',
      startVUs: 0,
      stages: JSON.parse(__ENV.STAGES),
      gracefulRampDown: '10s',
      gracefulStop: '10s',
    },
  },
  // The last word is that of whoever reads the summary; these let k6 itself tell as well.
  thresholds: {
    http_req_failed: ['rate<0.001'],
    ...(judged ? { http_req_duration: ['p(95)<200', 'p(99)<500'] } : {}),
  },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max', 'count'],
  // The path of a request has ids: by name there are few series.
  systemTags: ['name', 'method', 'status', 'expected_response'],
}

// Of this user alone: each has a world of its own.
const products = []
const orders = []
let serial = 0

// Of 100 requests 62 read and 38 write (ADR 37 says why); an order is followed by its steps.
const mix = [
  [22, 'list', () => get('/products?limit=20')],
  [22, 'read', () => get(`/products/${any(products).id}`)],
  [10, 'search', () => get('/products?q=lamp&limit=20')],
  [6, 'own orders', () => get(`/orders?sellerId=${seller()}`)],
  [2, 'inventory', () => get(`/products/${any(products).id}/inventory`)],
  [6, 'create', create],
  [6, 'reprice', reprice],
  [4, 'adjust', adjust],
  [10, 'order', order],
  [12, 'step', step],
]
const weights = mix.reduce((sum, [weight]) => sum + weight, 0)

export default function () {
  if (serial === 0) {
    randomSeed(Number(__ENV.SEED) + exec.vu.idInTest)
  }
  serial += 1
  chosen()()
  sleep(pauseSeconds)
}

function chosen() {
  if (products.length === 0) {
    return create
  }
  let left = Math.random() * weights
  for (const [weight, , act] of mix) {
    left -= weight
    if (left < 0) {
      return act
    }
  }
  return mix[0][2]
}

const seller = () => `${__ENV.SELLERS}${String(exec.vu.idInTest).padStart(4, '0')}`

function create() {
  const body = {
    name: `Lamp ${seller()} ${serial}`,
    description: 'A lamp for the desk, with a foot of brass and a shade of linen.',
    price: cents(),
    stock: 100000,
    sellerId: seller(),
    tags: ['lamp', 'desk'],
  }
  const made = write('POST', '/products', '/products', body)
  if (made) {
    products.push({ id: made.id })
    if (products.length > productsMax) {
      products.shift()
    }
  }
}

function reprice() {
  const path = `/products/${any(products).id}`
  write('PATCH', path, '/products/{id}', { price: cents() })
}

function adjust() {
  const path = `/products/${any(products).id}/stock-adjustments`
  write('POST', path, '/products/{id}/stock-adjustments', { delta: 5, reason: 'counted' })
}

function order() {
  const items = [any(products), any(products)].map(({ id }) => ({ productId: id, quantity: 2 }))
  const body = { customerId: `${seller()}-buyer`, items }
  const placed = write('POST', '/orders', '/orders', body)
  if (placed) {
    orders.push({ id: placed.id, step: 0 })
  }
}

// The oldest order goes on: confirmed, paid, shipped, delivered; one of ten is cancelled instead.
const steps = ['confirm', 'pay', 'ship', 'deliver']

function step() {
  if (orders.length === 0) {
    order()
    return
  }
  const [oldest] = orders
  const cancelled = oldest.step === 0 && Math.random() < 0.1
  const action = cancelled ? 'cancel' : steps[oldest.step]
  const path = `/orders/${oldest.id}/${action}`
  write('POST', path, '/orders/{id}/{action}', {})
  oldest.step += 1
  if (cancelled || oldest.step === steps.length) {
    orders.shift()
  }
}

function get(path) {
  const name = path.replace(/[0-9a-f-]{36}/, '{id}').replace(/\?.*/, '')
  const answer = http.get(api + path, { tags: { name } })
  check(answer, { 'a read is answered 200': ({ status }) => status === 200 })
}

function write(method, path, name, body) {
  const headers = {
    'content-type': 'application/json',
    'idempotency-key': `${seller()}-${serial}`,
  }
  if (name === '/products') {
    // As a first-time caller would: without a key it shares its statement with others.
    delete headers['idempotency-key']
  }
  const answer = http.request(method, api + path, JSON.stringify(body), { headers, tags: { name } })
  const wanted = method === 'PATCH' || name === '/orders/{id}/{action}' ? 200 : 201
  if (!check(answer, { 'a write is answered 200 or 201': ({ status }) => status === wanted })) {
    return null
  }
  const made = answer.json()
  const { id, productId, status, version, inventoryVersion, stock } = made
  console.log(
    JSON.stringify({
      method,
      path,
      status: answer.status,
      answer: { id, productId, status, version, inventoryVersion, stock },
    }),
  )
  return made
}

const any = (list) => list[Math.floor(Math.random() * list.length)]
const cents = () => Math.floor(100 + Math.random() * 9900) / 100

export function handleSummary(data) {
  return { [__ENV.SUMMARY]: JSON.stringify(data.metrics) }
}
