package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// A server that does not answer for so long has lost the request.
	answerMax = 60 * time.Second
	// Unexpected answers kept for the report, and how much of each.
	samplesMax          = 5
	sampleCharactersMax = 500
)

// prepared is a request with its templates parsed.
type prepared struct {
	Request
	path, body template
}

// connection is one closed loop and what it has seen.
type connection struct {
	client    *fasthttp.HostClient
	times     []time.Duration // of answers within the measured time
	byStatus  map[int]int64
	all       map[int]int64
	errors    int64
	locations []string
	samples   []string
}

// course is what all connections share.
type course struct {
	spec     *Spec
	requests []prepared
	expected map[int]bool
	next     atomic.Int64
	begin    time.Time // of the measured time
	end      time.Time
}

func drive(spec *Spec) (*Report, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	shared := &course{spec: spec, expected: map[int]bool{}}
	for _, request := range spec.Requests {
		path, err := parse(request.Path, spec.Lists)
		if err != nil {
			return nil, err
		}
		body, err := parse(request.Body, spec.Lists)
		if err != nil {
			return nil, err
		}
		shared.requests = append(shared.requests, prepared{request, path, body})
	}
	for _, status := range spec.Expected {
		shared.expected[status] = true
	}
	connections := shared.run()
	if err := writeLocations(spec.LocationsFile, connections); err != nil {
		return nil, err
	}
	return shared.report(connections), nil
}

// run starts all connections at once and returns when each has had its last answer.
func (c *course) run() []*connection {
	connections := make([]*connection, c.spec.Connections)
	c.begin = time.Now().Add(duration(c.spec.Warmup))
	c.end = c.begin.Add(duration(c.spec.Seconds))
	var all sync.WaitGroup
	for i := range connections {
		connections[i] = newConnection(c.spec.Address)
		all.Add(1)
		go func() {
			defer all.Done()
			connections[i].loop(c)
		}()
	}
	all.Wait()
	if now := time.Now(); now.Before(c.end) {
		c.end = now // the number of requests ran out first
	}
	return connections
}

func newConnection(address string) *connection {
	return &connection{
		client: &fasthttp.HostClient{
			Addr:                          address,
			MaxConns:                      1,
			ReadTimeout:                   answerMax,
			WriteTimeout:                  answerMax,
			MaxIdemponentCallAttempts:     1,
			RetryIfErr:                    func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
			NoDefaultUserAgentHeader:      true,
			DisableHeaderNamesNormalizing: true,
			DisablePathNormalizing:        true,
		},
		byStatus: map[int]int64{},
		all:      map[int]int64{},
	}
}

func (c *connection) loop(shared *course) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	var buffer []byte
	for time.Now().Before(shared.end) {
		n := shared.next.Add(1) - 1
		if shared.spec.RequestsMax > 0 && n >= shared.spec.RequestsMax {
			return
		}
		one := &shared.requests[n%int64(len(shared.requests))]
		request.Reset()
		request.Header.SetMethod(one.Method)
		request.Header.SetHost(shared.spec.Address)
		buffer = one.path.fill(buffer[:0], n)
		request.SetRequestURIBytes(buffer)
		for name, value := range one.Headers {
			request.Header.Set(name, value)
		}
		if one.Body != "" {
			buffer = one.body.fill(buffer[:0], n)
			request.SetBody(buffer)
		}
		sent := time.Now()
		err := c.client.Do(request, response)
		c.note(shared, response, err, sent, time.Now())
	}
}

func (c *connection) note(
	shared *course, response *fasthttp.Response, err error, sent, answered time.Time,
) {
	if err != nil {
		c.errors++
		c.sample(err.Error())
		return
	}
	status := response.StatusCode()
	c.all[status]++
	if status >= 200 && status < 300 && shared.spec.LocationsFile != "" {
		// Without normalising, a name is found as it was sent.
		for name, value := range response.Header.All() {
			if strings.EqualFold(string(name), "location") {
				c.locations = append(c.locations, string(value))
			}
		}
	}
	if !shared.expected[status] {
		c.sample(fmt.Sprintf("%d %s", status, response.Body()))
	}
	if !answered.Before(shared.begin) && answered.Before(shared.end) {
		c.byStatus[status]++
		c.times = append(c.times, answered.Sub(sent))
	}
}

func (c *connection) sample(text string) {
	if len(c.samples) < samplesMax {
		c.samples = append(c.samples, text[:min(len(text), sampleCharactersMax)])
	}
}

func (c *course) report(connections []*connection) *Report {
	report := &Report{
		Seconds:     c.end.Sub(c.begin).Seconds(),
		ByStatus:    map[int]int64{},
		AllByStatus: map[int]int64{},
		Samples:     []string{},
	}
	var times []time.Duration
	for _, one := range connections {
		times = append(times, one.times...)
		for status, count := range one.byStatus {
			report.ByStatus[status] += count
		}
		for status, count := range one.all {
			report.AllByStatus[status] += count
		}
		report.TransportErrors += one.errors
		report.Samples = append(report.Samples, one.samples...)
	}
	report.Samples = report.Samples[:min(len(report.Samples), samplesMax)]
	if len(times) == 0 {
		return report
	}
	slices.Sort(times)
	report.RequestsPerSecond = float64(len(times)) / report.Seconds
	report.P50, report.P95 = percentile(times, 50), percentile(times, 95)
	report.P99, report.Max = percentile(times, 99), percentile(times, 100)
	return report
}

// percentile is the nearest rank of an ascending, non-empty slice, in milliseconds.
func percentile(ascending []time.Duration, percent int) float64 {
	rank := (len(ascending)*percent + 99) / 100
	return float64(ascending[max(rank, 1)-1].Microseconds()) / 1000
}

func writeLocations(path string, connections []*connection) error {
	if path == "" {
		return nil
	}
	var text strings.Builder
	for _, one := range connections {
		for _, location := range one.locations {
			text.WriteString(location)
			text.WriteByte('\n')
		}
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second))
}
