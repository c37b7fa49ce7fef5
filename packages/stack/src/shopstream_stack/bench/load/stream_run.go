package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	shardsNumber = 16
	// Connections that are being opened at the same time; a server's backlog is some thousands.
	openingMax = 512
	faultsMax  = 5
	settlePoll = 10 * time.Millisecond
	// Before a stream that the server ended is tried again, if it named no time of its own.
	retryDefault = time.Second
	retryMax     = 5 * time.Second
	orderMax     = 64 << 20
)

// errMissed ends the program with an error; the reports have said what was missed.
var errMissed = errors.New("events were missed; see the reports")

// shard is what a part of the connections share: one lock a buffer that is read.
type shard struct {
	run   *streamRun
	mutex sync.Mutex
	tally
}

type tally struct {
	deliveries, others, bytes, ids, comments int64
	lost, doubled, foreign, misses           int64
	firstAt, lastAt                          int64
	controls                                 map[string]int64
	latencies                                [kinds]histogram
	resumed                                  histogram
	faults                                   []string
}

func newTally() tally {
	return tally{controls: map[string]int64{}, firstAt: math.MaxInt64, faults: []string{}}
}

func (t *tally) fault(text string, values ...any) {
	t.misses++
	if len(t.faults) < faultsMax {
		t.faults = append(t.faults, fmt.Sprintf(text, values...))
	}
}

type streamRun struct {
	spec          *StreamSpec
	host          string
	plain, strict bool
	// The mark of the member that has the time, if not the event's own.
	moment string
	// By group: streams of one filter share their subjects, those of others know nothing of them.
	keys    []*keys
	clock   minutes
	shards  []*shard
	streams []*stream
	pollers []*poller
	dialer  net.Dialer
	ctx     context.Context
	stop    context.CancelFunc
	opening chan struct{}
	// Counted over the whole run.
	open, ready, lost                   atomic.Int64 // lost: refused for good
	opened, closed, refused, reconnects atomic.Int64
	missed                              bool
	releaseMutex                        sync.Mutex
	release                             chan struct{}
	began                               time.Time
	beganProcessor                      float64
}

// driveStreams obeys the orders on input until they end; each is answered by a line of output.
func driveStreams(input io.Reader, output io.Writer) error {
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, orderMax)
	var spec StreamSpec
	if !lines.Scan() {
		return errors.New("there is no spec")
	}
	if err := decodeStrictly(lines.Bytes(), &spec); err != nil {
		return fmt.Errorf("the spec cannot be read: %w", err)
	}
	if err := spec.check(); err != nil {
		return err
	}
	// What lives is small and long-lived.
	debug.SetGCPercent(400)
	run := newStreamRun(&spec)
	defer run.end()
	answers := json.NewEncoder(output)
	run.start()
	if err := answers.Encode(run.report()); err != nil {
		return err
	}
	for lines.Scan() {
		var order Order
		if err := decodeStrictly(lines.Bytes(), &order); err != nil {
			return fmt.Errorf("the order cannot be read: %w", err)
		}
		if order.Do == "stop" {
			break
		}
		if err := run.obey(&order); err != nil {
			return err
		}
		if err := answers.Encode(run.report()); err != nil {
			return err
		}
	}
	if run.missed {
		return errMissed
	}
	return lines.Err()
}

func newStreamRun(spec *StreamSpec) *streamRun {
	run := &streamRun{
		spec:    spec,
		host:    spec.Host,
		plain:   spec.Profile == "plain",
		strict:  spec.Profile == "shopstream",
		opening: make(chan struct{}, openingMax),
		release: make(chan struct{}),
	}
	if spec.Moment != "" {
		run.moment = `"` + spec.Moment + `":"`
	}
	if run.host == "" {
		run.host = spec.Address
	}
	run.ctx, run.stop = context.WithCancel(context.Background())
	for range spec.Groups {
		run.keys = append(run.keys, newKeys())
	}
	for range shardsNumber {
		run.shards = append(run.shards, &shard{run: run, tally: newTally()})
	}
	for i := range spec.Connections {
		run.streams = append(run.streams, newStream(run, i))
	}
	run.pollers = newPollers(run)
	run.begin()
	return run
}

// start opens all connections and returns when all are ready or their time is over.
func (r *streamRun) start() {
	ends := time.Now().Add(duration(r.spec.OpenSecondsMax))
	began := time.Now()
	for i, one := range r.streams {
		if r.spec.RampPerSecond > 0 {
			due := began.Add(duration(float64(i) / r.spec.RampPerSecond))
			time.Sleep(min(time.Until(due), time.Until(ends)))
		}
		go one.live(r)
	}
	for r.ready.Load()+r.lost.Load() < int64(r.spec.Connections) && time.Now().Before(ends) {
		time.Sleep(settlePoll)
	}
	if short := int64(r.spec.Connections) - r.ready.Load(); short > 0 {
		r.note(func(t *tally) { t.fault("%d streams did not open in time", short) })
	}
}

// live is a client's whole life: connect, read, connect again.
func (s *stream) live(run *streamRun) {
	failures := 0
	for run.ctx.Err() == nil {
		from, err := s.opened(run)
		if err != nil {
			if !s.mayTryAgain(run, err) {
				return
			}
			failures++
			s.pause(run, failures)
			continue
		}
		failures = 0
		err = s.pump(run, from)
		if s.over(run, from) {
			continue // we have cut it ourselves: it comes back at once
		}
		if !s.mayComeBack(run, err) {
			return
		}
		s.pause(run, 1)
	}
}

// opened connects, with few others at the same time.
func (s *stream) opened(run *streamRun) (*socket, error) {
	select {
	case run.opening <- struct{}{}:
	case <-run.ctx.Done():
		return nil, run.ctx.Err()
	}
	defer func() { <-run.opening }()
	again := s.open
	made, err := s.connect(run)
	if err != nil {
		return nil, err
	}
	s.dropped.Store(false)
	s.socket.Store(made)
	run.open.Add(1)
	run.opened.Add(1)
	if again {
		run.reconnects.Add(1)
	}
	s.open = true
	if !run.strict {
		s.shard.mutex.Lock()
		s.becomeReady()
		s.shard.mutex.Unlock()
	}
	return made, nil
}

func (s *stream) mayTryAgain(run *streamRun, err error) bool {
	if run.ctx.Err() != nil {
		return false
	}
	run.refused.Add(1)
	var refused *refusal
	final := errors.As(err, &refused) && !refused.temporary()
	if final {
		run.lost.Add(1)
		s.shard.mutex.Lock()
		s.shard.fault("stream %d: %v", s.index, err)
		s.shard.mutex.Unlock()
	}
	return !final
}

// over ends a connection; it says whether we have cut it ourselves.
func (s *stream) over(run *streamRun, from *socket) bool {
	from.close()
	run.open.Add(-1)
	return s.dropped.Load()
}

func (s *stream) mayComeBack(run *streamRun, err error) bool {
	if run.ctx.Err() != nil {
		return false
	}
	run.closed.Add(1)
	if s.reconnects(run) {
		return true
	}
	s.shard.mutex.Lock()
	defer s.shard.mutex.Unlock()
	s.shard.fault("stream %d: %v", s.index, err)
	return false
}

// reconnects: a slow reader is expected to be cut off, and to come back.
func (s *stream) reconnects(run *streamRun) bool {
	return run.spec.Reconnect || s.index >= run.spec.Connections-run.spec.Slow
}

// pause is between half and all of a growing time, so that clients do not come back in step.
func (s *stream) pause(run *streamRun, failures int) {
	base := s.retry
	if base == 0 {
		base = retryDefault
	}
	base = min(base<<min(failures-1, 10), max(retryMax, s.retry))
	select {
	case <-run.ctx.Done():
	case <-time.After(base/2 + rand.N(base/2+1)):
	}
}

func (r *streamRun) released() <-chan struct{} {
	r.releaseMutex.Lock()
	defer r.releaseMutex.Unlock()
	return r.release
}

// note adds to the report what no single connection has seen.
func (r *streamRun) note(write func(*tally)) {
	r.shards[0].mutex.Lock()
	defer r.shards[0].mutex.Unlock()
	write(&r.shards[0].tally)
}

func (r *streamRun) end() {
	r.stop()
	for _, one := range r.streams {
		if from := one.socket.Load(); from != nil {
			from.close()
		}
	}
}

func processorSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
