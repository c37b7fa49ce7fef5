package main

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"time"
)

// What a connection is at the moment; each kind has latencies of its own.
const (
	steady uint8 = iota
	cut
	slow
	kinds
)

const (
	// Of a control event's data as much is looked at.
	controlBytesMax = 256
	// Different names of control events that are counted; a server that has more is odd.
	controlNamesMax = 100
)

// span is the first and the last sequence that came of one key; zero before the first.
type span struct{ first, last uint32 }

// stream is one client: a connection at a time, and what all of them together have brought. What
// it has is guarded by its shard's mutex, which the reader holds while it reads one buffer.
type stream struct {
	shard *shard
	index int
	group int
	path  string
	kind  uint8
	open  bool
	body  body
	keys  *keys
	seen  []span
	// Events that came in order, doubles left out.
	delivered int64
	lastID    []byte
	// The block under way.
	hasData, hasID, isEvent bool
	event                   fact
	name, control, id       []byte
	places                  places
	// The present connection.
	askedAt, readAt int64 // microseconds of the epoch
	cutAt           int64 // 0 unless it has yet to come back
	ready, wasReady bool
	wantsResume     bool
	stalled         atomic.Bool
	socket          atomic.Pointer[socket]
	// A cut is ours, not the server's.
	dropped atomic.Bool
	retry   time.Duration
}

func newStream(run *streamRun, index int) *stream {
	group := index % len(run.spec.Groups)
	s := &stream{
		shard: run.shards[index%len(run.shards)],
		index: index,
		group: group,
		path:  run.spec.Groups[group].Path,
		keys:  run.keys[group],
	}
	s.body.take = s.line
	return s
}

// begin makes it ready for a new connection, which was asked for at that time.
func (s *stream) begin(askedAt int64, chunked bool) {
	s.body.reset(chunked)
	s.hasData, s.hasID, s.isEvent, s.ready = false, false, false, false
	s.name = s.name[:0]
	s.askedAt = askedAt
	s.wantsResume = len(s.lastID) > 0
}

func (s *stream) line(line []byte) {
	if len(line) == 0 {
		s.dispatch()
		return
	}
	if line[0] == ':' {
		s.shard.comments++
		return
	}
	if len(line) > len(dataStart) && string(line[:len(dataStart)]) == dataStart {
		s.data(line[len(dataStart):]) // most of what comes, without looking for the colon
		return
	}
	name, value, _ := bytes.Cut(line, colon)
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		s.data(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			s.hasID = true
			s.id = append(s.id[:0], value...)
		}
	case "event":
		s.name = append(s.name[:0], value...)
	case "retry":
		if milliseconds, ok := decimal(value); ok {
			s.retry = time.Duration(milliseconds) * time.Millisecond
		}
	}
}

const dataStart = "data: "

var (
	colon      = []byte(":")
	eventStart = []byte(`{"specversion":`)
	resumed    = []byte(`"resumed":true`)
)

func (s *stream) data(value []byte) {
	if s.hasData || s.shard.run.plain || !bytes.HasPrefix(value, eventStart) {
		s.hasData = true
		s.control = append(s.control[:0], value[:min(len(value), controlBytesMax)]...)
		return
	}
	s.hasData = true
	s.event, s.isEvent = readEvent(value, s.keys, &s.shard.run.clock, &s.places,
		s.shard.run.moment)
	if !s.isEvent {
		s.shard.fault("stream %d: an event without type, subject, time or sequence", s.index)
	}
}

func (s *stream) dispatch() {
	if s.hasID {
		s.shard.ids++
		s.lastID = append(s.lastID[:0], s.id...)
	}
	if s.hasData {
		if len(s.name) > 0 {
			s.named()
		} else {
			s.message()
		}
	} else if s.hasID && s.shard.run.strict {
		s.becomeReady()
	}
	s.hasData, s.hasID, s.isEvent = false, false, false
	s.name = s.name[:0]
}

func (s *stream) named() {
	shard := s.shard
	if len(shard.controls) < controlNamesMax {
		shard.controls[string(s.name)]++
	}
	if !shard.run.strict {
		return
	}
	if s.hasID {
		shard.fault("stream %d: %s carries an id", s.index, s.name)
	}
	switch string(s.name) {
	case "stream.open":
		if s.wantsResume && !bytes.Contains(s.control, resumed) {
			shard.fault("stream %d: it was not resumed: %s", s.index, s.control)
		}
	case "stream.gap":
		shard.fault("stream %d: a gap: %s", s.index, s.control)
	}
}

func (s *stream) message() {
	shard := s.shard
	if shard.run.plain {
		s.delivered++
		shard.deliveries++
		shard.lastAt = s.readAt
		s.cameBack(s.readAt)
		return
	}
	if !s.isEvent {
		shard.others++
		return
	}
	if shard.run.strict && !s.hasID {
		shard.fault("stream %d: an event without an id", s.index)
	}
	event := s.event
	for len(s.seen) <= event.key {
		s.seen = append(s.seen, span{})
	}
	seen := &s.seen[event.key]
	switch {
	case seen.last == 0:
		*seen = span{event.sequence, event.sequence}
	case event.sequence == seen.last+1:
		seen.last = event.sequence
	case event.sequence <= seen.last:
		shard.doubled++
		shard.fault("stream %d: %s: %d came after %d", s.index, s.keyName(), event.sequence,
			seen.last)
		return
	case shard.run.spec.Sparse:
		seen.last = event.sequence
	default:
		shard.lost += int64(event.sequence - seen.last - 1)
		shard.fault("stream %d: %s: %d follows %d", s.index, s.keyName(), event.sequence,
			seen.last)
		seen.last = event.sequence
	}
	s.delivered++
	shard.deliveries++
	shard.firstAt = min(shard.firstAt, event.at)
	shard.lastAt = s.readAt
	shard.latencies[s.kind].add(s.readAt - event.at)
	s.cameBack(event.at)
}

func (s *stream) keyName() string { return s.keys.name(s.event.key) }

// cameBack notes that a connection that was cut has an event that is younger than its successor:
// nothing of what it missed is still to come, as events of one stream come in order.
func (s *stream) cameBack(at int64) {
	if s.cutAt != 0 && at >= s.askedAt {
		s.shard.resumed.add(s.readAt - s.cutAt)
		s.cutAt = 0
	}
}

func (s *stream) becomeReady() {
	s.ready = true
	if !s.wasReady {
		s.wasReady = true
		s.shard.run.ready.Add(1)
	}
}

// missing compares with what had to come; the first difference in words.
func (s *stream) missing(expected []span) (lost, foreign int64, first string) {
	say := func(key int, text string, numbers ...any) {
		if first == "" {
			name := s.keys.name(key)
			first = fmt.Sprintf("stream %d: %s: "+text, append([]any{s.index, name}, numbers...)...)
		}
	}
	for key := range max(len(expected), len(s.seen)) {
		var wanted, seen span
		if key < len(expected) {
			wanted = expected[key]
		}
		if key < len(s.seen) {
			seen = s.seen[key]
		}
		switch {
		case wanted == seen:
		case wanted.last == 0:
			foreign++
			say(key, "sequences %d to %d should not have come", seen.first, seen.last)
		case seen.last == 0:
			lost += int64(wanted.last - wanted.first + 1)
			say(key, "nothing of %d to %d came", wanted.first, wanted.last)
		default:
			lost += max(int64(seen.first)-int64(wanted.first), 0)
			lost += max(int64(wanted.last)-int64(seen.last), 0)
			if seen.last > wanted.last {
				foreign++
			}
			say(key, "%d to %d came, not %d to %d", seen.first, seen.last, wanted.first, wanted.last)
		}
	}
	return lost, foreign, first
}
