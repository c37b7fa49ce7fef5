package main

import "errors"

// Spec is what to send, where, how many at a time and for how long.
type Spec struct {
	Address     string  `json:"address"` // host:port
	Connections int     `json:"connections"`
	Warmup      float64 `json:"warmupSeconds"`
	Seconds     float64 `json:"seconds"`
	// Ends the run early after so many requests in all; 0 = no limit.
	RequestsMax int64 `json:"requestsMax"`
	// Sent in turn, request n being the n-th modulo their number.
	Requests []Request `json:"requests"`
	// Values of placeholders by name; see template.go.
	Lists map[string][]string `json:"lists"`
	// A file that gets the Location of every 2xx answer, warm-up included, a line each.
	LocationsFile string `json:"locationsFile"`
	// Statuses of which no sample is kept.
	Expected []int `json:"expected"`
}

// Request is a template: path and body may hold placeholders.
type Request struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Report is what came of it. Counts named all hold the warm-up too, the others only what was
// answered within the measured time.
type Report struct {
	Seconds           float64       `json:"seconds"`
	RequestsPerSecond float64       `json:"requestsPerSecond"`
	P50               float64       `json:"p50Ms"`
	P95               float64       `json:"p95Ms"`
	P99               float64       `json:"p99Ms"`
	Max               float64       `json:"maxMs"`
	ByStatus          map[int]int64 `json:"byStatus"`
	AllByStatus       map[int]int64 `json:"allByStatus"`
	// Requests without an answer: nobody knows whether they had an effect.
	TransportErrors int64 `json:"transportErrors"`
	// The first few unexpected answers and errors, in words.
	Samples []string `json:"samples"`
}

func (spec *Spec) check() error {
	switch {
	case spec.Address == "":
		return errors.New("the spec has no address")
	case spec.Connections < 1 || spec.Connections > 10_000:
		return errors.New("connections must be 1 to 10,000")
	case spec.Seconds <= 0:
		return errors.New("seconds must be above 0")
	case len(spec.Requests) == 0:
		return errors.New("the spec has no requests")
	}
	return nil
}
